import PostgresClient
import ReplicationCore

/// The statement that applies records with the same columns: arrays of text in, what became of each out.
///
/// Existing rows are compared first, by a plain read, so that unchanged ones are neither locked nor written. What was
/// inserted by another session meanwhile is met by `ON CONFLICT`.
struct UpsertStatement: Sendable {
    /// Counts, within a transaction, the rows that `ON CONFLICT` met and changed: `RETURNING` can't tell them from
    /// inserted ones, since a partitioned table has no `xmax`.
    static let metRows = "lindero.met_rows"

    let sql: String
    /// Rows that the table lacks cannot be made from these columns; the column that a new row would need.
    let missingForInsert: String?
    let mayInsert: Bool

    init(table: TableDescription, ownership: TableOwnership, side: String, columns: [String], catalog: UpsertCatalog) {
        let described = columns.compactMap { table.column($0) }.map(UpsertColumn.init)
        let match = ownership.match
        missingForInsert =
            catalog.fillsNewRows
            ? nil
            : table.columns.first { column in
                column.isNotNull && column.defaultExpression == nil && column.identity == .none && !column.isGenerated
                    && !columns.contains(column.name) && !catalog.defaults.contains(column.name)
            }?.name
        mayInsert = ownership.insertOwners.contains(side)
        let written = described.filter { !match.contains($0.description.name) }
        let same = match.map { column in
            let name = SQLText.identifier(column)
            return "t.\(name) \(catalog.equality[column] ?? "=") i.\(name)"
        }.joined(separator: " AND ")
        let changed =
            written.isEmpty ? "false" : Self.differ(written.map(\.current), written.map { "i.\($0.name)" })
        let insert = mayInsert && missingForInsert == nil
        sql = """
            WITH input AS MATERIALIZED (\(Self.input(described))),
            present AS MATERIALIZED (SELECT i.ord, \(changed) AS changed FROM input i JOIN \(table.name.sql) t ON \(same)),
            updated AS (\(Self.update(table, written, same: same, changed: changed))),
            inserted AS (\(insert ? Self.insert(table, described, written, match: match) : "SELECT 1 WHERE false"))
            SELECT made.count::text AS written, pg_catalog.current_setting('\(Self.metRows)') AS met,
              (SELECT pg_catalog.count(*) FROM updated)::text AS updated,
              (SELECT pg_catalog.array_agg(i.ord ORDER BY i.ord) FROM input i
               WHERE NOT EXISTS (SELECT 1 FROM present p WHERE p.ord = i.ord))::text AS absent
            FROM (SELECT pg_catalog.count(*) FROM inserted) made
            """
    }

    /// Numbers the records' keys, the same for the same key: one `bigint[]` in the records' order.
    static func keyNumbers(_ key: [ColumnDescription], _ catalog: UpsertCatalog) -> String {
        let order = key.map { column in
            let name = "i.\(SQLText.identifier(column.name))"
            return catalog.collation[column.name].map { "\(name) COLLATE \($0)" } ?? name
        }
        return """
            SELECT pg_catalog.array_agg(n.number ORDER BY n.ord)::text FROM (
              SELECT i.ord, pg_catalog.dense_rank() OVER (ORDER BY \(order.joined(separator: ", "))) AS number
              FROM (\(input(key.map(UpsertColumn.init)))) i) n
            """
    }

    /// The records as rows, `$1…` a text array for each column.
    private static func input(_ columns: [UpsertColumn]) -> String {
        let arrays = columns.indices.map { "pg_catalog.unnest($\($0 + 1)::text[])" }.joined(separator: ", ")
        let fields = columns.indices.map { "f\($0)" }.joined(separator: ", ")
        let values = columns.enumerated().map { "\($1.value(of: "v.f\($0)")) AS \($1.name)" }.joined(separator: ", ")
        return "SELECT v.ord, \(values) FROM ROWS FROM (\(arrays)) WITH ORDINALITY AS v(\(fields), ord)"
    }

    private static func update(_ table: TableDescription, _ written: [UpsertColumn], same: String, changed: String) -> String {
        if written.isEmpty { return "SELECT 1 WHERE false" }
        let assignments = written.map { "\($0.name) = i.\($0.name)" }.joined(separator: ", ")
        return """
            UPDATE \(table.name.sql) AS t SET \(assignments) FROM input i JOIN present p ON p.ord = i.ord
            WHERE p.changed AND \(same) AND \(changed) RETURNING p.ord
            """
    }

    private static func insert(
        _ table: TableDescription, _ columns: [UpsertColumn], _ written: [UpsertColumn], match: [String]
    ) -> String {
        let order = match.map { "i." + SQLText.identifier($0) }.joined(separator: ", ")
        var action = "NOTHING"
        if !written.isEmpty {
            let assignments = written.map { "\($0.name) = excluded.\($0.name)" }.joined(separator: ", ")
            let changed = differ(written.map { "t.\($0.name)" }, written.map { "excluded.\($0.name)" })
            let count = "(pg_catalog.current_setting('\(metRows)')::int + 1)::text"
            action = """
                UPDATE SET \(assignments) WHERE CASE WHEN \(changed)
                  THEN pg_catalog.set_config('\(metRows)', \(count), true) IS NOT NULL ELSE false END
                """
        }
        return """
            INSERT INTO \(table.name.sql) AS t (\(columns.map(\.name).joined(separator: ", "))) OVERRIDING SYSTEM VALUE
            SELECT \(columns.map { "i." + $0.name }.joined(separator: ", ")) FROM input i
            WHERE NOT EXISTS (SELECT 1 FROM present p WHERE p.ord = i.ord) ORDER BY \(order)
            ON CONFLICT (\(SQLText.list(match))) DO \(action) RETURNING 1
            """
    }

    /// Compares what is stored, so it works for types without an equality operator and sees what equality overlooks.
    private static func differ(_ old: [String], _ new: [String]) -> String {
        "pg_catalog.record_image_ne(ROW(\(old.joined(separator: ", "))), ROW(\(new.joined(separator: ", "))))"
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
