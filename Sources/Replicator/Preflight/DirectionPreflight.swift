import PostgresClient
import ReplicationCore

/// Looks at one direction: the source's tables, what is adopted there, and the target's tables.
struct DirectionPreflight {
    let configuration: LinderoConfiguration
    let policy: OwnershipPolicy
    let source: PreflightSide
    /// `nil` in `shared`, where nothing is copied.
    let target: PreflightSide?

    /// - Parameter originTables: the tables as the origin has them; they are the source's own when `isOrigin`.
    func findings(originTables: [TableDescription], isOrigin: Bool) async throws(PostgresError)
        -> [PreflightFinding]
    {
        var tables = originTables
        if !isOrigin {
            tables = try await CatalogReader.tables(source.connection, matching: originTables.map(\.name))
        }
        if let target, configuration.database(target.name)?.isPhysicalStandby == true {
            return standby(target)
        }
        var findings = SourceTableChecks(
            source: source.name, target: target?.name ?? source.name, user: source.facts.user,
            database: source.facts.database, mayCreateInDatabase: source.facts.mayCreateInDatabase, configuration: configuration,
            policy: policy,
            tables: tables, facts: try await ServerFactsReader.tables(source.connection, tables)
        ).findings()
        // An adopted slot is the origin's: the other direction of a split has one of its own.
        if isOrigin {
            findings += AdoptionChecks(
                source: source.name, target: target?.name ?? source.name, facts: source.facts,
                configuration: configuration, policy: policy, tables: tables
            ).findings()
        }
        guard let target else { return findings }
        // Of a pair of databases it is told once.
        if isOrigin {
            findings += pair(target)
            findings += try await clocks(target)
        }
        findings += try await SubscriptionChecks.read(target, tables: tables.map(\.name)).findings()
        let twins = try await CatalogReader.tables(target.connection, matching: tables.map(\.name))
        if isOrigin, configuration.backend == .replica || configuration.replication.snapshot == .initial {
            findings += try await copying(target, tables, twins)
        }
        findings += TargetTableChecks(
            source: source.name, target: target.name, user: target.facts.user,
            database: target.facts.database, mayCreateInDatabase: target.facts.mayCreateInDatabase, configuration: configuration,
            policy: policy,
            sourceTables: tables,
            targetTables: Dictionary(twins.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }),
            facts: try await ServerFactsReader.tables(target.connection, twins),
            unfinished: try await unfinished(target)
        ).findings()
        findings += try await enums(target, tables).findings()
        return findings
    }

    private func enums(_ target: PreflightSide, _ tables: [TableDescription]) async throws(PostgresError) -> EnumChecks {
        let lacks = try await EnumLabels.missing(tables, source: source.connection, target: target.connection) { table, column in
            policy.tables[table]?.travels(column, from: source.name, to: target.name, backend: configuration.backend) ?? false
        }
        return EnumChecks(source: source.name, target: target.name, backend: configuration.backend, lacks: lacks)
    }

    /// What an initial copy needs of both servers.
    private func copying(
        _ target: PreflightSide, _ tables: [TableDescription], _ twins: [TableDescription]
    ) async throws(PostgresError) -> [PreflightFinding] {
        let isPrepared = try await isPrepared(target)
        let isAhead = configuration.replication.snapshot == .initial && !isPrepared
        let capacity = try await CapacityFacts.read(source: source, target: target, tables: tables, isCopyAhead: isAhead)
        let there = Set(twins.map(\.name))
        let missing = tables.filter { !there.contains($0.name) }
        return CapacityChecks(facts: capacity, configuration: configuration).findings()
            + (try await ExtensionChecks.read(source: source, target: target, tables: missing).findings())
            + (try await leftOutKeys(tables))
    }

    /// Foreign keys to tables that stay: the target has none of their rows, and so not the key.
    private func leftOutKeys(_ tables: [TableDescription]) async throws(PostgresError) -> [PreflightFinding] {
        guard configuration.backend == .replica else { return [] }
        let oids = PostgresParameter.text("{" + tables.map { String($0.oid) }.joined(separator: ",") + "}")
        let rows = try await source.connection.query(
            """
            SELECT conname, conrelid::pg_catalog.regclass::text, confrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0
              AND conrelid = ANY ($1::pg_catalog.oid[]) AND NOT confrelid = ANY ($1::pg_catalog.oid[]) ORDER BY 2, 1
            """, [oids]
        ).rows
        return rows.map { row in
            PreflightFinding(
                .note, .foreignKeyCut, database: target?.name, object: row[0],
                "foreign key \(row[0] ?? "") of \(row[1] ?? "") refers to \(row[2] ?? ""), which is not replicated, so it is left out here",
                fix: "list that table under tables:, if its rows are wanted here")
        }
    }

    private func isPrepared(_ target: PreflightSide) async throws(PostgresError) -> Bool {
        guard try await target.connection.hasLindero("direction") else { return false }
        return try await target.connection.query(
            "SELECT 1 FROM lindero.direction WHERE name = $1 AND prepared_at IS NOT NULL",
            [.text("\(source.name)->\(target.name)")]
        ).rowCount > 0
    }

    /// Quoted names of tables that Lindero made and whose copy is not complete: their keys come after the data.
    func unfinished(_ target: PreflightSide) async throws(PostgresError) -> Set<String> {
        guard try await target.connection.hasLindero("direction") else { return [] }
        return try await TableCopyState.unfinished(target.connection, direction: "\(source.name)->\(target.name)")
    }

    private var isSameCluster: Bool {
        guard let target, let identifier = source.facts.systemIdentifier else { return false }
        return identifier == target.facts.systemIdentifier
    }

    private func standby(_ target: PreflightSide) -> [PreflightFinding] {
        if target.facts.isInRecovery && isSameCluster { return [] }
        let why =
            target.facts.isInRecovery ? "is a standby of another cluster" : "is no standby: it can be written"
        return [
            PreflightFinding(
                .blocker, .notAStandby, database: target.name,
                "the configuration calls \(target.name) a physical standby of \(source.name), but it \(why)",
                fix: "correct databases.\(target.name).url, or remove physical_standby: true")
        ]
    }

    private func pair(_ target: PreflightSide) -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        if isSameCluster, source.facts.serverStartedAt == target.facts.serverStartedAt,
            source.facts.databaseOID == target.facts.databaseOID
        {
            findings.append(
                PreflightFinding(
                    .blocker, .sameDatabase, object: source.facts.database,
                    "\(source.name) and \(target.name) are the same database (\(source.facts.database))",
                    fix: "point databases.\(target.name).url at another database, or set backend: shared"))
        }
        if source.facts.encoding != target.facts.encoding {
            findings.append(
                PreflightFinding(
                    .warning, .encoding, database: target.name,
                    "the encoding is \(target.facts.encoding) here and \(source.facts.encoding) in \(source.name): "
                        + "characters that it lacks would stop the stream",
                    fix:
                        "CREATE DATABASE … ENCODING \(SQLText.literal(source.facts.encoding)) TEMPLATE template0;"
                ))
        }
        return findings
    }

    private func clocks(_ target: PreflightSide) async throws(PostgresError) -> [PreflightFinding] {
        let check = ClockCheck(source: source.name, target: target.name, gates: configuration.gates, policy: policy)
        guard let offset = try await ClockReader.offset(source: source.connection, target: target.connection) else { return [] }
        let verdict = offset.verdict(limitMilliseconds: check.limitMilliseconds)
        let isDeciding = check.decides && configuration.backend == .split
        // Where no clock decides, one that may be off is no news.
        if verdict == .within || verdict == .unclear && !isDeciding { return [] }
        let limit = "gates.max_clock_offset allows \(check.limitMilliseconds) ms"
        return [
            PreflightFinding(
                verdict == .past && isDeciding ? .blocker : .warning, .clockOffset, database: target.name,
                offset.words(source: source.name, target: target.name) + "; \(limit)"
                    + (isDeciding ? ", and policy last_write decides by the clock" : ""),
                fix: verdict == .past
                    ? "run an NTP client (chrony) on both servers"
                    : "run lindero check nearer to the servers, or raise gates.max_clock_offset")
        ]
    }
}
