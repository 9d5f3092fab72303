/// The result of one statement.
public struct PostgresResult: Sendable {
    public let columns: [String]
    public let rowCount: Int
    /// Rows that INSERT, UPDATE, DELETE, COPY, … affected; 0 for others.
    public let affectedRows: Int
    public let commandTag: String
    /// Row by row; `nil` is NULL.
    let cells: [[UInt8]?]

    static let empty = PostgresResult(columns: [], rowCount: 0, affectedRows: 0, commandTag: "", cells: [])

    /// A cell as text; `nil` is NULL.
    public subscript(row row: Int, column column: Int) -> String? {
        bytes(row: row, column: column).map { String(decoding: $0, as: UTF8.self) }
    }

    /// A cell's bytes; `nil` is NULL.
    public func bytes(row: Int, column: Int) -> [UInt8]? { cells[row * columns.count + column] }

    public var rows: [PostgresRow] { (0..<rowCount).map { PostgresRow(result: self, index: $0) } }
}

/// One row of a result.
public struct PostgresRow: Sendable {
    let result: PostgresResult
    let index: Int

    /// The column's text; `nil` is NULL.
    public subscript(_ column: Int) -> String? { result[row: index, column: column] }

    /// The named column's text; `nil` is NULL, or no such column.
    public subscript(_ name: String) -> String? {
        result.columns.firstIndex(of: name).flatMap { result[row: index, column: $0] }
    }
}

/// A value for `$n`.
public enum PostgresParameter: Sendable {
    case null
    case text(String)
    /// Text in the client encoding.
    case textBytes([UInt8])
    /// The type's binary form.
    case binary([UInt8])
}
