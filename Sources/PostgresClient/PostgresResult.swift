/// The outcome of one statement: rows, or how many rows it touched.
///
/// Rows are copied out of libpq into one flat buffer, so a result owns all it shows.
public struct PostgresResult: Sendable {
    /// Names of the columns, in order; empty for a statement that returns no rows.
    public internal(set) var columns: [String] = []
    public internal(set) var rowCount = 0
    /// Rows inserted, updated, deleted, selected or copied, as the command tag says; 0 when it says nothing.
    public internal(set) var affectedRows = 0
    /// Such as `INSERT 0 3`.
    public internal(set) var commandTag = ""

    var storage: [UInt8] = []
    /// Where the cells lie in `storage`, row by row; nil is NULL.
    var cells: [Range<Int>?] = []

    init() {}

    /// The text of a cell; nil for NULL. Traps when the cell does not exist.
    public subscript(row row: Int, column column: Int) -> String? {
        range(row, column).map { String(decoding: storage[$0], as: UTF8.self) }
    }

    /// The bytes of a cell, in the format that was asked for; nil for NULL. Traps when the cell does not exist.
    public func bytes(row: Int, column: Int) -> [UInt8]? {
        range(row, column).map { Array(storage[$0]) }
    }

    public var rows: [PostgresRow] { (0..<rowCount).map { PostgresRow(result: self, index: $0) } }

    /// The first column of the first row as text; nil when there is no row, or NULL.
    public var firstValue: String? { rowCount > 0 && !columns.isEmpty ? self[row: 0, column: 0] : nil }

    private func range(_ row: Int, _ column: Int) -> Range<Int>? {
        precondition(row >= 0 && row < rowCount && column >= 0 && column < columns.count, "no such cell")
        return cells[row * columns.count + column]
    }
}

/// One row of a result.
public struct PostgresRow: Sendable {
    let result: PostgresResult
    let index: Int

    /// The text of a column; nil for NULL. Traps when the column does not exist.
    public subscript(column: Int) -> String? { result[row: index, column: column] }

    /// The text of the first column of that name; nil for NULL or when there is no such column.
    public subscript(name: String) -> String? {
        result.columns.firstIndex(of: name).flatMap { result[row: index, column: $0] }
    }
}
