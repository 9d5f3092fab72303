import PostgresClient
import ReplicationCore

/// Reads what Lindero wrote down when it guarded, under the names that tables and columns have today.
struct GuardRecordReader {
    let connection: PostgresConnection

    /// This database and no other, also not a restored copy of it: only here do recorded OIDs mean anything.
    static let databaseID = """
        (SELECT s.system_identifier || '/' || d.oid FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
         WHERE d.datname = pg_catalog.current_database())
        """

    /// The table of each record: the one with its OID, under whatever name; if there is none, the one with its name.
    private static let matched = """
        WITH matched AS (
            SELECT g.*, by_oid.oid IS NOT NULL AS is_same, coalesce(by_oid.oid, by_name.oid) AS oid,
                   by_oid.oid <> by_name.oid AS is_name_taken
            FROM lindero.guarded_table g
                 LEFT JOIN pg_catalog.pg_class by_oid ON by_oid.oid = g.table_oid AND by_oid.relkind IN ('r', 'p')
                      AND coalesce(g.database_id = \(databaseID), true)
                 LEFT JOIN (pg_catalog.pg_class by_name JOIN pg_catalog.pg_namespace s ON s.oid = by_name.relnamespace)
                      ON s.nspname = g.schema_name AND by_name.relname = g.table_name AND by_name.relkind IN ('r', 'p'))
        """

    func records() async throws(PostgresError) -> [QualifiedName: GuardRecord] {
        var records = try await tables()
        // A column's number outlives a new name as well, in the same table, and a role's OID in the same database.
        let sql = """
            \(Self.matched)
            SELECT g.schema_name, g.table_name, g.moment,
                   coalesce(a.attname, g.column_name), g.privilege, coalesce(holder.rolname, g.grantee), coalesce(giver.rolname, g.grantor), g.is_grantable,
                   g.column_number IS NOT NULL AND m.is_same AND a.attname IS NULL
            FROM lindero.guarded_grant g JOIN matched m USING (schema_name, table_name)
                 LEFT JOIN pg_catalog.pg_attribute a ON m.is_same AND a.attrelid = m.oid AND a.attnum = g.column_number
                      AND NOT a.attisdropped
                 LEFT JOIN pg_catalog.pg_roles holder ON holder.oid = g.grantee_oid AND coalesce(m.database_id = \(Self.databaseID), true)
                 LEFT JOIN pg_catalog.pg_roles giver ON giver.oid = g.grantor_oid AND coalesce(m.database_id = \(Self.databaseID), true)
            """
        for row in try await connection.query(sql).rows {
            let name = GuardReader.name(row[0], row[1])
            let grant = GuardReader.grant(row, from: 3)
            let isBefore = row[2] == "before"
            switch (isBefore, row[8] == "t") {
            case (true, false): records[name]?.before.insert(grant)
            case (false, false): records[name]?.after.insert(grant)
            case (true, true): records[name]?.lostBefore.insert(grant)
            case (false, true): records[name]?.lostAfter.insert(grant)
            }
        }
        // A table that is known by its OID is nobody else's by its name.
        return Dictionary(
            records.values.map { ($0.table, $0) },
            uniquingKeysWith: { first, second in first.match == .identity ? first : second })
    }

    /// By recorded name.
    private func tables() async throws(PostgresError) -> [QualifiedName: GuardRecord] {
        let sql = """
            \(Self.matched)
            SELECT m.schema_name, m.table_name, coalesce(n.nspname, m.schema_name), coalesce(c.relname, m.table_name),
                   m.owner_name, m.mode, m.is_same, coalesce(m.is_name_taken, false),
                   coalesce(m.database_id = \(Self.databaseID), true)
            FROM matched m LEFT JOIN pg_catalog.pg_class c ON c.oid = m.oid
                 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            """
        var records: [QualifiedName: GuardRecord] = [:]
        for row in try await connection.query(sql).rows {
            let name = GuardReader.name(row[0], row[1])
            let match: GuardRecord.Match = row[6] == "t" ? .identity : row[8] == "t" ? .successor : .restored
            records[name] = GuardRecord(
                table: GuardReader.name(row[2], row[3]), recordedName: name, match: match,
                isNameTaken: row[7] == "t", owner: row[4] ?? "",
                mode: GuardMode(rawValue: row[5] ?? "") ?? .audit, before: [], after: [])
        }
        return records
    }
}
