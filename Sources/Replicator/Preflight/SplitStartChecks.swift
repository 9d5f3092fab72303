import PostgresClient
import ReplicationCore

/// What a split neither begins nor goes on with, whether or not somebody asked `check`: it would write rows that are not its
/// own, or both sides would choose another value for good, and nothing would show it.
struct SplitStartChecks: Sendable {
    struct Side: Sendable {
        var name: String
        var tables: [QualifiedName: TableDescription]
        /// Tables that inherit from an ordinary one; partitions do not.
        var children: [QualifiedName: [QualifiedName]]
        /// Of each enum, in its order.
        var labels: [UInt32: [String]]
        var partitions: [PartitionMoveCheck.Column]
        /// Tables and partitions whose changes must carry the whole old row and do not.
        var untold: [QualifiedName]
    }

    let policy: OwnershipPolicy
    let sides: [Side]

    /// - Parameters:
    ///   - sides: with the roles of their services, where they are known.
    ///   - created: quoted names of tables of one side that get their old rows when their data is there.
    static func read(
        _ policy: OwnershipPolicy, _ sides: [(name: String, connection: PostgresConnection, roles: [String])],
        created: (side: String, tables: Set<String>)? = nil
    ) async throws(PostgresError) -> SplitStartChecks {
        var read: [Side] = []
        for (name, connection, own) in sides {
            // While they move, either may be on either side.
            let roles = policy.isInTransition ? sides.flatMap(\.roles) : own
            let tables = try await CatalogReader.tables(connection, matching: policy.tables.keys.sorted())
            let other = sides.first { $0.name != name }?.name ?? name
            let waiting = created?.side == name ? created?.tables ?? [] : []
            let telling = tables.filter {
                !waiting.contains($0.name.sql) && policy.tables[$0.name]?.mustTellOldRow($0, on: name, by: other) == true
            }
            read.append(
                Side(
                    name: name, tables: Dictionary(tables.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }),
                    children: try await children(of: tables, connection), labels: try await labels(of: tables, connection),
                    partitions: try await PartitionMoveCheck.columns(of: tables, roles: roles, connection),
                    untold: try await FullIdentity(name: name, connection: connection).missing(telling.map(\.name))))
        }
        return SplitStartChecks(policy: policy, sides: read)
    }

    func findings() -> [PreflightFinding] {
        policy.tables.keys.sorted().flatMap { table in
            sides.compactMap { inheritance(of: table, $0) } + sides.compactMap { moves(of: table, $0) } + orders(of: table)
        }
    }

    /// - Parameter hasBegun: whether the services write both sides already.
    /// - Throws: `ReplicationFailure` with everything that stands in the way.
    func require(hasBegun: Bool) throws {
        let findings = findings() + oldRows()
        if findings.isEmpty { return }
        // What is in the log without old rows passes only under an ownership that needs none.
        let onlyNow =
            hasBegun && findings.contains { $0.code == .replicaIdentity }
            ? " Where lindero.yaml has only just come to need old rows, for a column that is shared now: put the former one back first and "
                + "let it run; share the column when `lindero lag` shows nothing behind that statement." : ""
        throw ReplicationFailure(
            .schemaDiffers, findings.map { ($0.database.map { "\($0): " } ?? "") + $0.message }.joined(separator: "\n"),
            nextStep: findings.count == 1 || findings.allSatisfy { $0.code == .replicaIdentity }
                ? "\(findings.map { sentence($0.fix ?? "") }.joined(separator: " ")) Then `lindero run`." + onlyNow
                : "Run `lindero check`: it says of each how to mend it." + onlyNow,
            isBlocker: true)
    }

    private func sentence(_ fix: String) -> String { fix.hasSuffix(";") ? fix : fix + "." }

    // MARK: inheritance

    /// A statement that names the table reaches its children: the services' own, whose changes of those do not travel, and
    /// those of `on_delete`.
    private func inheritance(of table: QualifiedName, _ side: Side) -> PreflightFinding? {
        guard let children = side.children[table] else { return nil }
        return PreflightFinding(
            .blocker, .inheritance, database: side.name, object: table.description,
            "tables inherit from \(table), which a split does not carry: their rows are found, changed and deleted as rows of it "
                + "([\(children.map(\.description).joined(separator: ", "))])",
            fix: children.map { "ALTER TABLE \($0.sql) NO INHERIT \(table.sql);" }.joined(separator: " "))
    }

    private static func children(
        of tables: [TableDescription], _ connection: PostgresConnection
    ) async throws(PostgresError) -> [QualifiedName: [QualifiedName]] {
        let parents = Dictionary(tables.filter { $0.kind == .ordinary }.map { ($0.oid, $0.name) }, uniquingKeysWith: { first, _ in first })
        var children: [QualifiedName: [QualifiedName]] = [:]
        for row in try await connection.query(Self.childrenSQL, [Self.oids(parents.keys)]).rows {
            guard let parent = row[0].flatMap({ UInt32($0) }).flatMap({ parents[$0] }) else { continue }
            children[parent, default: []].append(QualifiedName(schema: row[1] ?? "", name: row[2] ?? ""))
        }
        return children
    }

    /// `$1`: oids of tables. Temporary ones only their own session sees.
    private static let childrenSQL = """
        SELECT i.inhparent, n.nspname, c.relname
        FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = ANY ($1::pg_catalog.oid[]) AND c.relpersistence <> 't' ORDER BY n.nspname, c.relname
        """

    // MARK: old rows

    /// What is in the log without them can't be mended any more. `check` says of each table why.
    private func oldRows() -> [PreflightFinding] {
        sides.filter { !$0.untold.isEmpty }.map { side in
            PreflightFinding(
                .blocker, .replicaIdentity, database: side.name, object: side.untold[0].description,
                "changes of \(side.untold.map(\.description).joined(separator: ", ")) do not carry the whole old row, without which values "
                    + "would be missing on the other side",
                fix: "Run on \(side.name): " + side.untold.map { "ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;" }.joined(separator: " "))
        }
    }

    // MARK: partitions

    private func moves(of table: QualifiedName, _ side: Side) -> PreflightFinding? {
        guard let ownership = policy.tables[table], let description = side.tables[table] else { return nil }
        return PartitionMoveCheck(
            table: SplitOwnership(ownership: ownership, sides: sides.map(\.name)), description: description, side: side.name,
            columns: side.partitions.filter { $0.table == table }
        ).finding()
    }

    // MARK: order

    /// Each side compares by its own order.
    private func orders(of table: QualifiedName) -> [PreflightFinding] {
        guard let ownership = policy.tables[table], sides.count == 2 else { return [] }
        return ownership.columns.keys.sorted().compactMap { name in
            guard case .shared(let rule)? = ownership.columns[name], [.max, .min].contains(rule.policy),
                let here = sides[0].tables[table]?.column(name), let there = sides[1].tables[table]?.column(name)
            else { return nil }
            let labels = (sides[0].labels[here.baseTypeOID], sides[1].labels[there.baseTypeOID])
            guard let difference = difference(labels.0, labels.1) else { return nil }
            return PreflightFinding(
                .blocker, .enumOrder, object: "\(table).\(name)",
                "policy \(rule.policy.rawValue) of \(table).\(name) goes by the order of an enum's labels, and \(difference)",
                fix: "policy: last_write (or prefer, queue) for it in lindero.yaml; or the same enum on both sides: CREATE TYPE … AS ENUM (…); "
                    + "ALTER TABLE \(table.sql) ALTER COLUMN \(SQLText.identifier(name)) TYPE … USING \(SQLText.identifier(name))::text::…;")
        }
    }

    private func difference(_ here: [String]?, _ there: [String]?) -> String? {
        switch (here, there) {
        case (let here?, let there?):
            LabelOrder.difference(here, there).map {
                "'\($0.earlier)' comes before '\($0.later)' on \(sides[0].name), and after it on \(sides[1].name)"
            }
        case (nil, nil): nil
        case (nil, _): "on \(sides[0].name) it is none"
        case (_, nil): "on \(sides[1].name) it is none"
        }
    }

    private static func labels(
        of tables: [TableDescription], _ connection: PostgresConnection
    ) async throws(PostgresError) -> [UInt32: [String]] {
        let types = Set(tables.flatMap(\.columns).filter { $0.baseKind == "e" }.map(\.baseTypeOID))
        if types.isEmpty { return [:] }
        var labels: [UInt32: [String]] = [:]
        for row in try await connection.query(
            "SELECT enumtypid, enumlabel FROM pg_catalog.pg_enum WHERE enumtypid = ANY ($1::pg_catalog.oid[]) ORDER BY enumtypid, enumsortorder",
            [oids(types)]
        ).rows {
            guard let type = row[0].flatMap({ UInt32($0) }), let label = row[1] else { continue }
            labels[type, default: []].append(label)
        }
        return labels
    }

    private static func oids(_ oids: some Sequence<UInt32>) -> PostgresParameter {
        .text(SQLText.arrayLiteral(oids.map(String.init)))
    }
}
