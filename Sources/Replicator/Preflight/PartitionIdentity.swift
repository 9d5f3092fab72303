import PostgresClient
import ReplicationCore

/// Whether changes of partitions can be told apart by what their root is identified by.
///
/// They come under the root's name, and its identity says which columns are the key; the old values are those that the partition's own
/// identity has put into the log. Of a key column that is not among them there is NULL, and the change would meet no row, or another one.
struct PartitionIdentity {
    let settings: DirectionSettings
    let source: PostgresConnection

    /// Scalar: quoted name of a leaf of table `c` that puts less into the log than the root's identity says; NULL where there is none.
    /// With FULL the primary key finds the row, if there is one.
    static let unlikeLeaf = """
        (SELECT min(l.oid::pg_catalog.regclass::pg_catalog.text)
         FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class l ON l.oid = p.relid
         WHERE p.isleaf AND l.relkind = 'r' AND l.relreplident <> 'f' AND (EXISTS (\(key(of: "c")) EXCEPT \(key(of: "l")))
           OR c.relreplident = 'f' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)))
        """

    private static func key(of table: String) -> String {
        """
        SELECT a.attname FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])
        WHERE i.indrelid = \(table).oid AND CASE \(table).relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END
        """
    }

    /// The first that can't.
    ///
    /// - Throws: `PostgresError`.
    func misfit(among tables: [QualifiedName]) async throws -> (leaf: String, failure: ReplicationFailure)? {
        guard !tables.isEmpty else { return nil }
        let found = try await source.query(
            """
            SELECT root, leaf FROM (
              SELECT c.oid::pg_catalog.regclass::pg_catalog.text AS root, \(Self.unlikeLeaf) AS leaf
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'p' AND (n.nspname, c.relname) IN (
                SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])))) AS roots
            WHERE leaf IS NOT NULL ORDER BY 1 LIMIT 1
            """, [.text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name)))])
        guard let row = found.rows.first, let root = row[0], let leaf = row[1] else { return nil }
        return (
            leaf,
            ReplicationFailure(
                .replicaIdentity, "On \(settings.sourceName) \(Self.words(leaf, root)).",
                nextStep: "Run on \(settings.sourceName): \(Self.fix(leaf)) Then `lindero run`, and `lindero verify` for what was changed there before.",
                isBlocker: true)
        )
    }

    static func words(_ leaf: String, _ root: String) -> String {
        "partition \(leaf) puts less of a changed row into the log than the replica identity of its root \(root) says: such a change would "
            + "meet no row, or another one"
    }

    static func fix(_ leaf: String) -> String { "ALTER TABLE \(leaf) REPLICA IDENTITY FULL;" }
}
