import PostgresClient
import ReplicationCore

/// Statements that mend one row of a side; a parameter takes its column's own type.
struct RepairSQL {
    let table: VerifyTable
    let side: VerifySide

    var delete: String { "DELETE FROM \(table.rows(side)) WHERE \(condition(first: 1))" }

    func insert(_ columns: [String]) -> String {
        let values = columns.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        return "INSERT INTO \(table.name.sql) (\(SQLText.list(columns))) OVERRIDING SYSTEM VALUE VALUES (\(values))"
    }

    /// The same, where a row with its key may have come: then nothing.
    func bring(_ columns: [String]) -> String {
        insert(columns) + " ON CONFLICT (\(SQLText.list(table.key.map(\.name)))) DO NOTHING"
    }

    func update(_ columns: [String]) -> String {
        let values = columns.enumerated().map { "\(SQLText.identifier($1)) = $\($0 + 1)" }.joined(separator: ", ")
        return "UPDATE \(table.rows(side)) SET \(values) WHERE \(condition(first: columns.count + 1))"
    }

    private func condition(first: Int) -> String {
        table.key.enumerated().map { "\(SQLText.identifier($1.name)) = $\(first + $0)::\($1.type(side))" }
            .joined(separator: " AND ")
    }

    // MARK: rows that refer to it

    /// Foreign keys that lead to the table: who refers, its columns, and the table's own, in order, each ready for SQL.
    static let foreignKeys = """
        SELECT c.conrelid::pg_catalog.regclass::text,
          (SELECT pg_catalog.string_agg('r.' || pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.place)
           FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k(number, place)
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number),
          (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.place)
           FROM pg_catalog.unnest(c.confkey) WITH ORDINALITY AS k(number, place)
           JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number)
        FROM pg_catalog.pg_constraint c
        WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = $1::text::pg_catalog.regclass
        """

    /// One row, if any of `referrer` refers to the row.
    func referring(_ referrer: String, _ columns: String, to own: String) -> String {
        "SELECT 1 FROM \(referrer) AS r WHERE (\(columns)) = "
            + "(SELECT \(own) FROM \(table.rows(side)) WHERE \(condition(first: 1))) LIMIT 1"
    }

    // MARK: on record

    /// What is written over, as `lindero.conflict` keeps it; the parameters are those of `record`.
    static let record = """
        INSERT INTO lindero.conflict (direction, schema_name, table_name, row_key, column_name, kind, policy, winner, loser,
          kept_value, lost_value, lost_at, lost_lsn, lost_position, state)
        VALUES ($1, $2, $3, pg_catalog.jsonb_object($4::text[], $5::text[]), $6, 'repair', $7, $8, $9, $10, $11,
          pg_catalog.clock_timestamp(), pg_catalog.pg_current_wal_insert_lsn(), $12::text::bigint, 'settled')
        """
}

extension VerifyKey {
    var parameters: [PostgresParameter] { values.map { .text($0) } }
}
