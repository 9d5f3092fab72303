import PostgresClient
import ReplicationCore

/// The partitions of both databases' tables, side by side: they are made, attached and detached without a word in the stream.
struct PartitionTrees {
    struct Partition: Equatable {
        var root: QualifiedName
        var parent: QualifiedName
        var name: QualifiedName
        /// `FOR VALUES …` or `DEFAULT`, as the server prints it.
        var bound: String
        /// What its own partitions go by; `nil` where it has rows itself.
        var key: String?
    }

    /// How each root is partitioned.
    private var keys: [QualifiedName: String] = [:]
    private(set) var partitions: [Partition] = []

    /// - Throws: `PostgresError`.
    static func read(_ connection: PostgresConnection, of roots: [QualifiedName]) async throws(PostgresError) -> PartitionTrees {
        let rows = try await connection.query(
            """
            SELECT rn.nspname, r.relname, pg_catalog.pg_get_partkeydef(r.oid), pn.nspname, p.relname, n.nspname, c.relname,
              pg_catalog.pg_get_expr(c.relpartbound, c.oid), CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END
            FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
            CROSS JOIN LATERAL pg_catalog.pg_partition_tree(r.oid) t
            LEFT JOIN (pg_catalog.pg_class p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace) ON p.oid = t.parentrelid AND t.level > 0
            JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE r.relkind = 'p' AND NOT r.relispartition AND (rn.nspname, r.relname) IN (
              SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])))
            ORDER BY t.level, 1, 2, 6, 7
            """, [.text(SQLText.arrayLiteral(roots.map(\.schema))), .text(SQLText.arrayLiteral(roots.map(\.name)))]
        ).rows
        var trees = PartitionTrees()
        for row in rows {
            let root = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            trees.keys[root] = row[2] ?? ""
            guard let schema = row[3], let bound = row[7] else { continue }
            trees.partitions.append(
                Partition(
                    root: root, parent: QualifiedName(schema: schema, name: row[4] ?? ""), name: QualifiedName(schema: row[5] ?? "", name: row[6] ?? ""),
                    bound: bound, key: row[8]))
        }
        return trees
    }

    /// Partitions of tables that both have, and partition alike, which `target` would have no place for the rows of; whole ones before
    /// their parts.
    func missing(in target: PartitionTrees) -> [Partition] {
        partitions.filter { partition in
            guard keys[partition.root] == target.keys[partition.root] else { return false }
            let there = target.partitions.filter { $0.parent == partition.parent }.map(\.bound)
            if there.contains(partition.bound) || there.contains("DEFAULT") { return false }
            // Where none of those beside it is there either, the target goes by bounds of its own.
            return there.isEmpty || partitions.contains { $0.parent == partition.parent && there.contains($0.bound) }
        }
    }
}

extension PartitionTrees.Partition {
    /// Makes it, empty.
    var sql: String { "CREATE TABLE \(name.sql) PARTITION OF \(parent.sql) \(bound)\(key.map { " PARTITION BY \($0)" } ?? "");" }
}
