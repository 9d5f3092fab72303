import PostgresClient
import ReplicationCore

/// The statement that applies records with the same columns: arrays of text in, what became of each out.
///
/// Existing rows are compared first, by a plain read, so that unchanged ones are neither locked nor written. What was
/// inserted by another session meanwhile is met by `ON CONFLICT`.
struct UpsertStatement: Sendable {
    let sql: String
    /// Rows that the table lacks cannot be made from these columns; the column that a new row would need.
    let missingForInsert: String?
    let mayInsert: Bool

    /// Types without an equality operator: json, xml, point, line, lseg, box, path, polygon, circle.
    private static let incomparable: Set<UInt32> = [114, 142, 600, 628, 601, 603, 602, 604, 718]
    /// char(n), varchar: an explicit cast to their length would cut values silently.
    private static let characters: Set<UInt32> = [1042, 1043]

    init(table: TableDescription, ownership: TableOwnership, side: String, columns: [String]) {
        let described = columns.compactMap { table.column($0) }
        let match = ownership.match
        missingForInsert =
            table.columns.first { column in
                column.isNotNull && column.defaultExpression == nil && column.identity == .none && !column.isGenerated
                    && !columns.contains(column.name)
            }?.name
        mayInsert = ownership.insertOwners.contains(side)
        let written = described.filter { !match.contains($0.name) }
        func name(_ column: ColumnDescription) -> String { SQLText.identifier(column.name) }
        let arrays = columns.indices.map { "pg_catalog.unnest($\($0 + 1)::text[])" }.joined(separator: ", ")
        let fields = columns.indices.map { "f\($0)" }.joined(separator: ", ")
        let cast = described.enumerated().map { "v.f\($0)::\(Self.castType($1)) AS \(name($1))" }
        let same = match.map { "t.\(SQLText.identifier($0)) = i.\(SQLText.identifier($0))" }.joined(separator: " AND ")
        let changed = written.map { Self.differs(name($0), $0, "i") }.joined(separator: " OR ")
        let conflict = written.map { Self.differs(name($0), $0, "excluded") }.joined(separator: " OR ")
        let assignments = written.map { "\(name($0)) = i.\(name($0))" }.joined(separator: ", ")
        let excluded = written.map { "\(name($0)) = excluded.\(name($0))" }.joined(separator: ", ")
        let keys = match.map { "i." + SQLText.identifier($0) }.joined(separator: ", ")
        let target = table.name.sql
        let update =
            written.isEmpty
            ? "SELECT NULL::bigint AS ord WHERE false"
            : """
            UPDATE \(target) AS t SET \(assignments) FROM input i JOIN present p ON p.ord = i.ord
            WHERE p.changed AND \(same) AND (\(changed)) RETURNING p.ord
            """
        let insert =
            !mayInsert || missingForInsert != nil
            ? "SELECT NULL::boolean AS is_new WHERE false"
            : """
            INSERT INTO \(target) AS t (\(described.map(name).joined(separator: ", "))) OVERRIDING SYSTEM VALUE
            SELECT \(described.map { "i." + name($0) }.joined(separator: ", ")) FROM input i
            WHERE NOT EXISTS (SELECT 1 FROM present p WHERE p.ord = i.ord) ORDER BY \(keys)
            ON CONFLICT (\(SQLText.list(match))) DO \
            \(written.isEmpty ? "NOTHING" : "UPDATE SET \(excluded) WHERE \(conflict)") RETURNING t.xmax = 0 AS is_new
            """
        sql = """
            WITH input AS MATERIALIZED (
              SELECT v.ord, \(cast.joined(separator: ", ")) FROM ROWS FROM (\(arrays)) WITH ORDINALITY AS v(\(fields), ord)),
            present AS MATERIALIZED (
              SELECT i.ord, \(changed.isEmpty ? "false" : "(\(changed))") AS changed FROM input i JOIN \(target) t ON \(same)),
            updated AS (\(update)),
            inserted AS (\(insert))
            SELECT (SELECT count(*) FROM inserted WHERE is_new)::text, (SELECT count(*) FROM inserted WHERE NOT is_new)::text,
              (SELECT count(*) FROM updated)::text,
              (SELECT array_agg(i.ord ORDER BY i.ord) FROM input i WHERE NOT EXISTS (SELECT 1 FROM present p WHERE p.ord = i.ord))::text
            """
    }

    /// Whether the stored value differs from what the column would hold afterwards.
    private static func differs(_ name: String, _ column: ColumnDescription, _ row: String) -> String {
        let isText = characters.contains(column.baseTypeOID)
        let value = row == "excluded" || isText ? "\(row).\(name)" : "\(row).\(name)::\(column.type)"
        let cast = incomparable.contains(column.baseTypeOID) ? "::text" : ""
        return "t.\(name)\(cast) IS DISTINCT FROM (\(value))\(cast)"
    }

    /// The column's type without its modifier: assigning checks the length, casting would cut.
    private static func castType(_ column: ColumnDescription) -> String {
        guard column.baseTypeOID < TypeCompatibility.firstUserOID, column.typeOID == column.baseTypeOID else {
            return column.type
        }
        let array = column.type.hasSuffix("[]") ? "[]" : ""
        if column.type.hasPrefix("character(") || column.type == "character" + array { return "pg_catalog.bpchar" + array }
        if column.type.hasPrefix("bit(") { return "pg_catalog.\"bit\"" + array }
        guard let open = column.type.firstIndex(of: "("), let close = column.type.firstIndex(of: ")") else {
            return column.type
        }
        return String(column.type[..<open] + column.type[column.type.index(after: close)...])
    }
}

/// A column of values as a binary `text[]` parameter: no quoting, any content.
enum TextArray {
    static func parameter(_ values: [String?]) -> PostgresParameter {
        var bytes: [UInt8] = []
        func put(_ value: Int32) { withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) } }
        put(values.isEmpty ? 0 : 1)
        put(values.contains { $0 == nil } ? 1 : 0)
        put(25)
        if !values.isEmpty {
            put(Int32(values.count))
            put(1)
        }
        for value in values {
            guard let value else {
                put(-1)
                continue
            }
            let text = Array(value.utf8)
            put(Int32(text.count))
            bytes.append(contentsOf: text)
        }
        return .binary(bytes)
    }
}
