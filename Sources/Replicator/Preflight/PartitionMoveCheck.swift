import PostgresClient
import ReplicationCore

/// An update that moves a row to another partition is a delete and an insert in the stream, and nothing there says that it was
/// one row (decision 0049). On the other side the new row has no more than what this one sends.
struct PartitionMoveCheck {
    /// One of those that tell partitions apart.
    struct Column: Sendable {
        var table: QualifiedName
        var name: String
        /// Of the side's services, those that may update it; `nil` where nobody has said which roles they are.
        var roles: [String]?
    }

    let table: SplitOwnership
    let description: TableDescription
    let side: String
    let columns: [Column]

    func finding() -> PreflightFinding? {
        let ownership = table.ownership
        let moving = columns.filter { column in column.roles.map { !$0.isEmpty } ?? ownership.mayWrite(column.name, side: side) }
        let lost = description.columns.filter { !$0.isGenerated && isLost($0.name) }.map(\.name)
        guard let first = moving.first, !lost.isEmpty else { return nil }
        let (list, what) = (moving.map(\.name).joined(separator: ", "), lost.joined(separator: ", "))
        let roles = Set(moving.flatMap { $0.roles ?? [] }).sorted()
        return PreflightFinding(
            .blocker, .partitionMove, database: side, object: "\(ownership.table).\(first.name)",
            "an update of [\(list)] that moves a row of \(ownership.table) to another partition is a delete and an insert in the stream: on "
                + "\(table.other(side)) the row would lose its [\(what)], for good and unseen"
                + (roles.isEmpty ? ", and databases.\(side).roles does not say whose rights could rule that out" : ""),
            fix: byRights(roles, ownership.table, list)
                + "; or let both sides write [\(what)] (shared: with a policy), so that it travels with the row")
    }

    private func byRights(_ roles: [String], _ name: QualifiedName, _ list: String) -> String {
        if roles.isEmpty { return "databases.\(side).roles: [the roles of its services], which have no right to UPDATE [\(list)]" }
        return "REVOKE UPDATE ON \(name.sql) FROM \(SQLText.list(roles)); and GRANT UPDATE (the columns beside [\(list)]) to them (from "
            + "PUBLIC and other roles they may have it, too, on a partition with partitions of its own, or as superusers)"
    }

    /// Whether the other side has a value of its own there, and this one does not send it. What comes home to a private column
    /// while services move is none that this side knows.
    private func isLost(_ column: String) -> Bool {
        let (ownership, other) = (table.ownership, table.other(side))
        guard ownership.columns[column] != nil, !ownership.match.contains(column) else { return false }
        if ownership.inboundSide(of: column) == other { return true }
        return ownership.owner(of: column) != side && !table.travels(column, from: side, to: other)
    }

    /// What tells the partitions of some tables apart, on every level.
    static func columns(
        of tables: [TableDescription], roles: [String], _ connection: PostgresConnection
    ) async throws(PostgresError) -> [Column] {
        let names = Dictionary(
            tables.filter { $0.kind == .partitioned }.map { ($0.oid, $0.name) }, uniquingKeysWith: { first, _ in first })
        // Most databases have none.
        if names.isEmpty { return [] }
        let parameters = [names.keys.map(String.init), roles].map { PostgresParameter.text(SQLText.arrayLiteral($0)) }
        return try await connection.query(sql, parameters).rows.compactMap { row in
            guard let table = row[0].flatMap({ UInt32($0) }).flatMap({ names[$0] }), let column = row[1] else { return nil }
            let able = (row[2] ?? "").split(separator: "\n").map(String.init)
            return Column(table: table, name: column, roles: roles.isEmpty ? nil : able)
        }
    }

    /// `$1`: oids of tables, `$2`: names of roles; of one that does not exist nothing is known. A row may be moved on each level, by
    /// its own rights. Where an expression tells partitions apart, no key is unique.
    private static let sql = """
        SELECT DISTINCT w.oid, a.attname,
               (SELECT pg_catalog.string_agg(DISTINCT service, E'\\n' ORDER BY service)
                FROM unnest($2::pg_catalog.text[]) AS service LEFT JOIN pg_catalog.pg_roles r ON r.rolname = service
                     CROSS JOIN LATERAL (SELECT w.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(w.oid) WHERE NOT isleaf) AS level(oid)
                WHERE r.oid IS NULL OR pg_catalog.has_column_privilege(r.oid, level.oid, a.attname, 'UPDATE'))
        FROM unnest($1::pg_catalog.oid[]) AS w(oid)
             CROSS JOIN LATERAL pg_catalog.pg_partition_tree(w.oid) AS tree
             JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = tree.relid
             JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::pg_catalog.int2[])
        ORDER BY 1, 2
        """
}
