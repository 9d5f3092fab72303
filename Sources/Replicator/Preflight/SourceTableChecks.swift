import ReplicationCore

/// Judges the tables of a stream's source.
struct SourceTableChecks {
    let source: String
    let target: String
    let user: String
    /// Its name on its server.
    let database: String
    let mayCreateInDatabase: Bool
    let configuration: LinderoConfiguration
    let policy: OwnershipPolicy
    let tables: [TableDescription]
    let facts: [UInt32: TableFacts]

    /// In `shared` a table that can't be followed costs its part of the change feed only.
    private var severity: PreflightFinding.Severity { configuration.backend == .shared ? .warning : .blocker }

    func findings() -> [PreflightFinding] {
        var findings = publicationPrivilege()
        for table in tables {
            guard let facts = facts[table.oid] else { continue }
            findings += identity(table, facts) + storage(table, facts) + reading(table, facts)
        }
        return findings + sequences() + partitions()
    }

    /// A publication of tables takes their owner, who may also create in the database.
    private func publicationPrivilege() -> [PreflightFinding] {
        guard configuration.replication.publication == nil else { return [] }
        var findings: [PreflightFinding] = []
        if !mayCreateInDatabase {
            findings.append(
                finding(
                    severity, .publicationPrivilege, object: user,
                    "role \(user) may not create a publication in this database",
                    fix:
                        "GRANT CREATE ON DATABASE \(SQLText.identifier(database)) TO \(SQLText.identifier(user)); or let its owner make a "
                        + "publication and name it under replication.publication"))
        }
        let foreign = tables.filter { facts[$0.oid]?.actsAsOwner == false }
        if let first = foreign.first, let owner = facts[first.oid]?.owner {
            let more = foreign.count > 1 ? " and \(foreign.count - 1) more" : ""
            findings.append(
                finding(
                    severity, .publicationPrivilege, object: first.name.description,
                    "role \(user) does not own table \(first.name)\(more), and only an owner can publish a table",
                    fix:
                        "let \(owner) make the publication and name it under replication.publication; or, unless \(owner) may do more "
                        + "than \(user) should: GRANT \(SQLText.identifier(owner)) TO \(SQLText.identifier(user));"))
        }
        return findings
    }

    private func identity(_ table: TableDescription, _ facts: TableFacts) -> [PreflightFinding] {
        let alter = "ALTER TABLE \(table.name.sql) REPLICA IDENTITY"
        if let leaf = facts.leafWithoutIdentity {
            return [
                finding(
                    severity, .replicaIdentity, object: leaf,
                    "partition \(leaf) of \(table.name) has no replica identity: once it is published, PostgreSQL "
                        + "refuses its updates and deletes",
                    fix: "ALTER TABLE \(leaf) REPLICA IDENTITY FULL; or give \(table.name) a primary key")
            ]
        }
        // A split looks at more than keys, and has a check of its own.
        if let leaf = facts.unlikeLeaf, configuration.backend == .replica {
            return [
                finding(
                    severity, .replicaIdentity, object: leaf, PartitionIdentity.words(leaf, table.name.description),
                    fix: PartitionIdentity.fix(leaf))
            ]
        }
        if table.kind == .partitioned { return [] }
        if table.replicaIdentity != .full, table.identityColumns.isEmpty {
            let why =
                table.replicaIdentity == .nothing
                ? "has replica identity NOTHING"
                : "has no usable key (replica identity \(table.replicaIdentity))"
            return [
                finding(
                    severity, .replicaIdentity, object: table.name.description,
                    "table \(table.name) \(why): once it is published, PostgreSQL refuses its updates and deletes",
                    fix: identityFix(table, facts, alter: alter))
            ]
        }
        var findings: [PreflightFinding] = []
        guard let ownership = policy.tables[table.name] else { return [] }
        let needsFull =
            configuration.backend == .split
            && ownership.columns.values.contains { if case .shared = $0 { true } else { false } }
        // The owner's role sets it when services are about to move.
        if needsFull, table.replicaIdentity != .full, !policy.isInTransition || !facts.actsAsOwner {
            findings.append(
                finding(
                    .blocker, .replicaIdentityFull, object: table.name.description,
                    "table \(table.name) has shared columns, so its changes must carry the old row too",
                    fix: "\(alter) FULL;"))
        }
        // In a split rows are found by match, which has checks of its own.
        guard configuration.backend == .replica, table.replicaIdentity != .full else { return findings }
        let staying = table.identityColumns.filter {
            !ownership.travels($0, from: source, to: target, backend: configuration.backend)
        }
        if !staying.isEmpty {
            findings.append(
                finding(
                    .blocker, .identityStays, object: table.name.description,
                    "rows of \(table.name) are identified by \(SQLText.list(staying)), which does not travel to "
                        + "\(target)",
                    fix: "\(alter) FULL; or an identity of columns that travel, such as match"))
        }
        return findings
    }

    private func identityFix(_ table: TableDescription, _ facts: TableFacts, alter: String) -> String {
        if let index = facts.identityCandidate {
            let isPrimary = !table.primaryKey.isEmpty && table.replicaIdentity == .nothing
            return isPrimary ? "\(alter) DEFAULT;" : "\(alter) USING INDEX \(SQLText.identifier(index));"
        }
        return "ALTER TABLE \(table.name.sql) ADD PRIMARY KEY (…); or, slower: \(alter) FULL;"
    }

    private func storage(_ table: TableDescription, _ facts: TableFacts) -> [PreflightFinding] {
        guard facts.isUnlogged else { return [] }
        return [
            finding(
                severity, .unloggedTable, object: table.name.description,
                "table \(table.name) is unlogged, and its changes are in no WAL to read",
                fix: "ALTER TABLE \(table.name.sql) SET LOGGED; or leave it out of tables:")
        ]
    }

    /// The copy reads the tables; a filtered read would make an incomplete replica.
    private func reading(_ table: TableDescription, _ facts: TableFacts) -> [PreflightFinding] {
        guard configuration.backend != .shared, configuration.replication.snapshot == .initial else {
            return []
        }
        var findings: [PreflightFinding] = []
        if facts.isFilteredByRowSecurity {
            findings.append(
                finding(
                    .blocker, .rowSecurity, object: table.name.description,
                    "row security hides rows of \(table.name) from role \(user), so a copy would be incomplete",
                    fix: "ALTER ROLE \(SQLText.identifier(user)) BYPASSRLS;"))
        }
        if !facts.maySelect {
            findings.append(
                finding(
                    .blocker, .sourcePrivilege, object: table.name.description,
                    "role \(user) may not read table \(table.name)",
                    fix: "GRANT SELECT ON \(table.name.sql) TO \(SQLText.identifier(user));"))
        }
        return findings
    }

    private func sequences() -> [PreflightFinding] {
        let withSequence = tables.filter { facts[$0.oid]?.hasSequence == true }
        // Two sides that write share their numbers, which is checked by itself.
        guard configuration.backend == .replica, let first = withSequence.first else { return [] }
        let more = withSequence.count > 1 ? " and \(withSequence.count - 1) more tables" : ""
        return [
            finding(
                .note, .sequences, object: first.name.description,
                "sequences (of \(first.name)\(more)) are not in the stream; before anybody inserts into \(target), they "
                    + "must be set ahead there",
                fix: "lindero advance --to split does it; by hand, once writers of \(source) stand still: SELECT setval(…) there")
        ]
    }

    /// A publication by the root of a partition tree has no word for it.
    private func partitions() -> [PreflightFinding] {
        let roots = tables.filter { $0.kind == .partitioned }
        guard configuration.backend != .shared, let first = roots.first else { return [] }
        let more = roots.count > 1 ? " and \(roots.count - 1) more" : ""
        return [
            finding(
                .note, .partitionTruncate, object: first.name.description,
                "TRUNCATE, DROP or DETACH of a single partition (of \(first.name)\(more)) is not in the stream",
                fix: "do the same on \(target), or DELETE the rows on \(source)")
        ]
    }

    private func finding(
        _ severity: PreflightFinding.Severity, _ code: PreflightFinding.Code, object: String,
        _ message: String,
        fix: String?
    ) -> PreflightFinding {
        PreflightFinding(severity, code, database: source, object: object, message, fix: fix)
    }
}
