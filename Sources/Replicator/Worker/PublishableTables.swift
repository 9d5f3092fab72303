import PostgresClient
import ReplicationCore

/// Which tables can be published without harm: PostgreSQL refuses updates and deletes of a published table whose rows
/// it could not name.
struct PublishableTables {
    let connection: PostgresConnection

    /// Tables without a usable replica identity, or with a partition that has none.
    func keyless(among names: [QualifiedName]) async throws -> Set<QualifiedName> {
        guard !names.isEmpty else { return [] }
        let rows = try await connection.query(
            """
            SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND EXISTS (
                SELECT 1 FROM pg_catalog.pg_class leaf
                WHERE leaf.relkind = 'r'
                  AND (leaf.oid = c.oid OR leaf.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf))
                  AND leaf.relreplident <> 'f'
                  AND NOT EXISTS (
                      SELECT 1 FROM pg_catalog.pg_index i
                      WHERE i.indrelid = leaf.oid AND i.indislive
                        AND (leaf.relreplident = 'd' AND i.indisprimary OR leaf.relreplident = 'i' AND i.indisreplident)))
            """
        ).rows
        let keyless = Set(
            rows.compactMap { row in row[0].flatMap { schema in row[1].map { QualifiedName(schema: schema, name: $0) } } })
        return keyless.intersection(names)
    }
}
