import PostgresClient
import ReplicationCore

/// The statements that compare one table. Every one of them says the same on every server, whatever its settings: names
/// carry their schema, texts are compared byte by byte, and the session's settings are pinned.
///
/// A row is told by `ROW(…)::text`: it quotes what needs quotes, so no two rows have one text; NULL and '' differ in it, as
/// do 0 and −0, and 'a' and 'a '.
struct VerifySQL: Sendable {
    let table: VerifyTable
    /// Another one for each run, so that two rows with one hash are found by the next.
    let seed: Int64
    /// Whether the two databases keep text in different encodings.
    let differsInEncoding: Bool

    // MARK: values

    private static let row = "lindero_row"

    private func name(_ column: String) -> String { "\(Self.row).\(SQLText.identifier(column))" }

    private func value(_ column: VerifyTable.Column, _ side: VerifySide) -> String {
        var value = name(column.name)
        if side == .source, let type = column.sourceCast { value = cast(column, to: type) }
        // Half as long as its text form, or much shorter.
        return column.isBytes ? "pg_catalog.sha256(\(value))" : value
    }

    private func cast(_ column: VerifyTable.Column, to type: String) -> String {
        let name = name(column.name)
        guard column.isPadded else { return "CAST(\(name) AS \(type))" }
        return "CAST(CASE WHEN \(name) IS NOT NULL THEN \(printed(name)) END AS \(type))"
    }

    /// What the type's output function prints, trailing spaces included. Of NULL it makes ''.
    private func printed(_ value: String) -> String { "pg_catalog.format('%s', \(value))" }

    private func hash(_ text: String) -> String {
        let bytes = differsInEncoding ? "pg_catalog.encode(pg_catalog.convert_to(\(text), 'UTF8'), 'hex')" : text
        return "pg_catalog.hashtextextended(\(bytes) COLLATE pg_catalog.\"C\", '\(seed)'::bigint)"
    }

    private func rowText(_ side: VerifySide) -> String {
        "ROW(\(table.columns.map { value($0, side) }.joined(separator: ", ")))::text"
    }

    private var keyTexts: String { table.key.map { "\(name($0.name))::text" }.joined(separator: ", ") }

    // MARK: places

    private func from(_ side: VerifySide) -> String { "FROM \(table.rows(side)) AS \(Self.row)" }

    private func conditions(_ side: VerifySide) -> [String] {
        side == .source ? table.sourceFilter.map { ["(\($0))"] } ?? [] : []
    }

    private func place(_ range: KeyRange, _ side: VerifySide, _ order: [Int]) -> String {
        var conditions = conditions(side)
        var first = 1
        for (bound, comparison) in [(range.lower, ">"), (range.upper, "<=")] where bound != nil {
            let columns = order.map { name(table.key[$0].name) }.joined(separator: ", ")
            let values = order.map { "$\(first + $0)::\(table.key[$0].type(side))" }.joined(separator: ", ")
            conditions.append("(\(columns)) \(comparison) (\(values))")
            first += table.key.count
        }
        return from(side) + (conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND "))
    }

    /// The rows of given keys; `$1…` hold an array for each key column.
    private func place(ofKeysOn side: VerifySide) -> String {
        let arrays = table.key.indices.map { "pg_catalog.unnest($\($0 + 1)::text[])" }.joined(separator: ", ")
        let columns = table.key.indices.map { "lindero_k\($0)" }.joined(separator: ", ")
        let matches = table.key.enumerated().map { index, column in
            "\(name(column.name)) = CAST(lindero_asked.lindero_k\(index) AS \(column.type(side)))"
        }
        return "FROM ROWS FROM (\(arrays)) WITH ORDINALITY AS lindero_asked(\(columns), lindero_n) JOIN "
            + "\(table.rows(side)) AS \(Self.row) ON " + (matches + conditions(side)).joined(separator: " AND ")
    }

    // MARK: statements

    /// Rows, sum of hashes and bytes of a stretch.
    ///
    /// - Parameter limitRows: reads no more than one row beyond.
    func digest(_ range: KeyRange, _ side: VerifySide, limitRows: Int) -> String {
        """
        SELECT pg_catalog.count(*)::text, coalesce(pg_catalog.sum(hash), 0)::text, coalesce(pg_catalog.sum(bytes), 0)::text
        FROM (SELECT \(hash("lindero_text")) AS hash, pg_catalog.octet_length(lindero_text) AS bytes
              FROM (SELECT \(rowText(side)) AS lindero_text \(place(range, side, table.walks[0].order)) LIMIT \(limitRows + 1)) AS texts) AS hashes
        """
    }

    /// Each row of a stretch: its key, then its hash.
    func list(_ range: KeyRange, _ walk: VerifyTable.Walk) -> String {
        "SELECT \(keyTexts), \(hash(rowText(walk.side)))::text \(place(range, walk.side, walk.order))"
    }

    /// Of given keys: which, and its row's hash.
    func lookUp(_ side: VerifySide) -> String {
        "SELECT lindero_asked.lindero_n::text, \(hash(rowText(side)))::text \(place(ofKeysOn: side))"
    }

    /// Of given keys: which, its row's version, a hash of each column, and the key as the row spells it.
    func read(_ side: VerifySide) -> String {
        let hashes = table.columns.map { hash("ROW(\(value($0, side)))::text") }.joined(separator: ", ")
        return "SELECT lindero_asked.lindero_n::text, \(version), ARRAY[\(hashes)]::text, \(keyTexts) \(place(ofKeysOn: side))"
    }

    /// Of one key: its row's version, then each of `columns` as the target's type prints it.
    func values(_ columns: [VerifyTable.Column], _ side: VerifySide) -> String {
        let values = columns.map { column -> String in
            if side == .source, let type = column.sourceCast { return "\(cast(column, to: type))::text" }
            return "\(name(column.name))::text"
        }
        return "SELECT \(([version] + values).joined(separator: ", ")) \(place(ofKeysOn: side))"
    }

    /// The last key of a stretch of so many rows.
    func border(_ range: KeyRange, _ walk: VerifyTable.Walk, rows: Int) -> String {
        let order = walk.order.map { name(table.key[$0].name) }.joined(separator: ", ")
        return "SELECT \(keyTexts) \(place(range, walk.side, walk.order)) ORDER BY \(order) OFFSET \(max(0, rows - 1)) LIMIT 1"
    }

    /// The version of a row, locked unless somebody else has it.
    func lock(_ side: VerifySide) -> String {
        "SELECT \(version) \(place(ofKeysOn: side)) FOR UPDATE OF \(Self.row) SKIP LOCKED"
    }

    /// Of one key: all of its row, also what is not compared.
    func whole(_ side: VerifySide) -> String { "SELECT pg_catalog.to_jsonb(\(Self.row))::text \(place(ofKeysOn: side))" }

    /// Of one key: how the target's value of a column compares with another one: `1`, `0`, `-1`.
    func compare(_ column: VerifyTable.Column) -> String {
        let (value, other) = ("\(name(column.name))\(column.isText ? " COLLATE \"C\"" : "")", "$\(table.key.count + 1)")
        return "SELECT CASE WHEN \(value) > \(other) THEN '1' WHEN \(value) = \(other) THEN '0' ELSE '-1' END "
            + place(ofKeysOn: .target)
    }

    private var version: String {
        "\(Self.row).tableoid::text || '/' || \(Self.row).ctid::text || '/' || \(Self.row).xmin::text"
    }
}

extension KeyRange {
    /// The parameters of a statement about it.
    var parameters: [PostgresParameter] { [lower, upper].flatMap { $0?.values ?? [] }.map { .text($0) } }
}

extension [VerifyKey] {
    /// An array for each key column.
    func parameters(_ table: VerifyTable) -> [PostgresParameter] {
        table.key.indices.map { index in .text(SQLText.arrayLiteral(map { $0.values[index] })) }
    }
}
