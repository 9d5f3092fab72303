import PostgresClient

extension PostgresConnection {
    /// Whether this database's schema `lindero` has all of the tables: it has none before `lindero migrate`, and not the
    /// newer ones where an older version migrated last.
    ///
    /// - Throws: `PostgresError`, also where the role may not look into the schema.
    public func hasLindero(_ tables: String...) async throws(PostgresError) -> Bool {
        let conditions = tables.map { "pg_catalog.to_regclass('lindero.\($0)') IS NOT NULL" }
        return try await query("SELECT 1 WHERE \(conditions.joined(separator: " AND "))").rowCount > 0
    }
}
