import Logging
import PostgresClient
import ReplicationCore

/// Looks at a direction whose first copy is still to be made, or to be finished, as its worker does before it copies.
public struct CopyPreflight: Sendable {
    let settings: DirectionSettings

    public init(settings: DirectionSettings) { self.settings = settings }

    /// What would stop the worker at once; nothing where that can't be looked at: the rest of the preflight tells why.
    public func findings() async -> [PreflightFinding] {
        guard settings.replication.snapshot == .initial, settings.backend == .replica else { return [] }
        let found = try? await PostgresConnection.with(settings.target) { target in
            try await PostgresConnection.with(settings.source) { source in try await look(source, target) }
        }
        return found ?? []
    }

    private func look(_ source: PostgresConnection, _ target: PostgresConnection) async throws -> [PreflightFinding] {
        let known = try await known(target)
        var findings: [PreflightFinding] = []
        if known == nil {
            do {
                try await ReplicaEnd.requireNoSplit(settings, from: source)
            } catch let failure as ReplicationFailure {
                // What else could be advised, to empty the target for one, would lose what is the newer.
                return [finding(failure, on: settings.sourceName, object: settings.name)]
            }
        }
        let objects = ReplicationObjects(settings: settings, source: source)
        if known == nil, try await objects.slotExists() {
            findings.append(finding(objects.foreignSlot(), on: settings.sourceName, object: settings.slot))
        }
        let tables = try await InitialSync(settings: settings, state: DirectionState(), logger: Logger(label: "check"))
            .publishedTables(source).map(\.name)
        let present = Set(try await CatalogReader.names(target, matching: tables))
        findings += try await schemas(of: tables.filter { !present.contains($0) }, target)
        let begun = known == nil ? [] : try await begun(target)
        // Where a table may not be read, its privileges are told.
        let filled = try await readable(present.subtracting(begun).sorted(), target)
        if !filled.isEmpty {
            let failure = try await InitialSync.notEmpty(filled, settings, on: target)
            findings.append(finding(failure, on: settings.targetName, object: filled[0].description))
        }
        let trees = try await PartitionTrees.read(source, of: tables)
        for partition in trees.missing(in: try await PartitionTrees.read(target, of: tables)) {
            findings.append(
                PreflightFinding(
                    .warning, .partitionMissing, database: settings.targetName, object: partition.name.description,
                    "partition \(partition.name) of \(partition.root) is not there: a row of it would make the worker wait", fix: partition.sql))
        }
        return findings
    }

    private func finding(_ failure: ReplicationFailure, on database: String, object: String) -> PreflightFinding {
        PreflightFinding(.blocker, .of(failure), database: database, object: object, failure.message, fix: failure.nextStep)
    }

    private func known(_ target: PostgresConnection) async throws -> DirectionRecord.Row? {
        guard try await target.hasLindero("direction") else { return nil }
        return try await DirectionRecord(connection: target, settings: settings).read()
    }

    /// Tables with rows that our own copy has brought.
    private func begun(_ target: PostgresConnection) async throws -> Set<QualifiedName> {
        let finished = try await TableCopyState.read(target, direction: settings.name)
        let parts = try await ChunkLedger(connection: target, direction: settings.name).read()
        return Set(finished.keys).union(parts.keys)
    }

    private func readable(_ tables: [QualifiedName], _ target: PostgresConnection) async throws -> [QualifiedName] {
        let rows = try await target.query(
            """
            SELECT s, t FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS asked(s, t)
            WHERE pg_catalog.has_table_privilege(pg_catalog.format('%I.%I', s, t), 'SELECT')
              AND pg_catalog.has_schema_privilege(s, 'USAGE')
            """, [.text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name)))]
        ).rows
        return try await target.filled(among: rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") }.sorted())
    }

    /// Tables are made where their schema is there and takes them; that schemas may be made is asked elsewhere.
    private func schemas(of missing: [QualifiedName], _ target: PostgresConnection) async throws -> [PreflightFinding] {
        try await target.query(
            """
            SELECT nspname, current_user FROM pg_catalog.pg_namespace
            WHERE nspname = ANY ($1::text[]) AND NOT pg_catalog.has_schema_privilege(oid, 'CREATE') ORDER BY 1
            """, [.text(SQLText.arrayLiteral(Set(missing.map(\.schema)).sorted()))]
        ).rows.map { row in
            let (schema, user) = (row[0] ?? "", row[1] ?? "")
            let tables = missing.filter { $0.schema == schema }
            return PreflightFinding(
                .blocker, .targetPrivilege, database: settings.targetName, object: schema,
                "role \(user) may not create \(tables.count == 1 ? "table \(tables[0])" : "\(tables.count) tables, \(tables[0]) first,") in schema "
                    + "\(schema)",
                fix: "GRANT CREATE ON SCHEMA \(SQLText.identifier(schema)) TO \(SQLText.identifier(user));")
        }
    }
}
