import PostgresClient
import ReplicationCore

/// Cuts large tables into stretches of blocks, in a transaction that shows the exported snapshot.
///
/// The transaction has to stay open until the last stretch is copied: its locks keep `VACUUM FULL` and other rewrites
/// from moving rows between stretches.
struct CopyPlanner {
    let source: PostgresConnection
    let chunkBytes: Int

    /// A table as the snapshot shows it.
    struct Layout: Sendable {
        var heaps: [Heap]
        /// Digest of files and columns: the same as long as a row that nobody touches stays in its place and its form.
        var shape: String
        var blockBytes: Int
        var sizeBytes: Int { heaps.reduce(0) { $0 + $1.blocks } * blockBytes }
    }

    /// A range of `ctid` is read without the rest of the table since PostgreSQL 14.
    static let leastVersion = 140_000

    /// The layouts of the tables that are copied in stretches, locked, and the sizes of all.
    func layouts(
        of tables: [TableDescription], alwaysStretched: Set<QualifiedName>,
        columns: [QualifiedName: CopyColumns]
    ) async throws -> (stretched: [QualifiedName: Layout], sizes: [QualifiedName: Int]) {
        let all = try await read(tables, columns)
        let sizes = all.mapValues { $0.layout.sizeBytes }
        guard await source.serverVersion >= Self.leastVersion else { return ([:], sizes) }
        let large = tables.filter { 
            all[$0.name]?.isReadable == true && ((sizes[$0.name] ?? 0) > chunkBytes || alwaysStretched.contains($0.name))
        }
        guard !large.isEmpty else { return ([:], sizes) }
        _ = try await source.execute("LOCK TABLE \(large.map(\.name.sql).joined(separator: ", ")) IN ACCESS SHARE MODE")
        let locked = try await read(large, columns)
        for table in large where locked[table.name]?.isUnmoved != true {
            throw Self.rewritten(table.name)
        }
        return (locked.mapValues(\.layout), sizes)
    }

    static func rewritten(_ table: QualifiedName) -> ReplicationFailure {
        ReplicationFailure(
            .tableRewritten, "\(table) was rewritten or truncated while its copy began. Nothing of it was copied.",
            nextStep: "Start again.")
    }

    private struct Finding {
        var layout: Layout
        var isReadable = true
        /// Whether the files are still those that the snapshot shows.
        var isUnmoved = true
    }

    private func read(
        _ tables: [TableDescription], _ columns: [QualifiedName: CopyColumns]
    ) async throws -> [QualifiedName: Finding] {
        let oids = "{" + tables.map { "\($0.oid)" }.joined(separator: ",") + "}"
        let lists = SQLText.arrayLiteral(tables.map { columns[$0.name].map { "\($0.list) \($0.isBinary)" } ?? "" })
        let rows = try await source.query(Self.sql, [.text(oids), .text(lists)]).rows
        let names = Dictionary(tables.map { ("\($0.oid)", $0.name) }, uniquingKeysWith: { first, _ in first })
        var findings: [QualifiedName: Finding] = [:]
        for row in rows {
            guard let name = row["root"].flatMap({ names[$0] }), let oid = row["heap"].flatMap({ UInt32($0) }),
                let bytes = row["bytes"].flatMap({ Int($0) }), let blockBytes = row["block_bytes"].flatMap({ Int($0) })
            else { continue }
            let heap = Heap(
                oid: oid, name: QualifiedName(schema: row["schema"] ?? "", name: row["name"] ?? ""),
                blocks: bytes / max(1, blockBytes))
            var finding =
                findings[name] ?? Finding(layout: Layout(heaps: [], shape: row["shape"] ?? "", blockBytes: blockBytes))
            finding.layout.heaps.append(heap)
            if row["is_readable"] != "true" { finding.isReadable = false }
            if row["is_unmoved"] != "true" { finding.isUnmoved = false }
            findings[name] = finding
        }
        return findings
    }

    /// `$1`: roots; `$2`: what is copied of each. `pg_class` is read as the snapshot shows it, functions show the present.
    private static let sql = """
        WITH RECURSIVE tree AS (
          SELECT r.oid AS root, r.oid AS heap, r.list
          FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[])) AS r(oid, list)
          UNION ALL
          SELECT tree.root, i.inhrelid, tree.list
          FROM tree JOIN pg_catalog.pg_class p ON p.oid = tree.heap AND p.relkind = 'p'
               JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.heap),
        heaps AS (
          SELECT tree.root, tree.list, c.oid, n.nspname, c.relname, c.relkind, c.relfilenode
          FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.heap AND c.relkind <> 'p'
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace),
        shapes AS (
          SELECT root, pg_catalog.md5(list || pg_catalog.string_agg(oid || ':' || relfilenode, ',' ORDER BY oid) || (
            SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', attnum, attname, atttypid, atttypmod, atthasmissing), ','
                                         ORDER BY attnum)
            FROM pg_catalog.pg_attribute WHERE attrelid = heaps.root AND attnum > 0)) AS shape
          FROM heaps GROUP BY root, list)
        SELECT root::text, heaps.oid::text AS heap, nspname AS schema, relname AS name, shape,
               pg_catalog.current_setting('block_size') AS block_bytes,
               coalesce(pg_catalog.pg_relation_size(heaps.oid), 0)::text AS bytes,
               (heaps.relkind = 'r' AND pg_catalog.has_table_privilege(heaps.oid, 'SELECT')
                AND pg_catalog.has_table_privilege(root, 'SELECT'))::text AS is_readable,
               (pg_catalog.pg_relation_filenode(heaps.oid) IS NOT DISTINCT FROM relfilenode)::text AS is_unmoved
        FROM heaps JOIN shapes USING (root) ORDER BY root, heaps.oid
        """
}
