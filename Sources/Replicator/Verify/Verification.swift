import PostgresClient
import ReplicationCore

/// Compares the two databases of a direction while both are written to.
public struct Verification: Sendable {
    let settings: DirectionSettings
    let verify: VerifySettings
    public let direction: VerifyDirection
    /// An interrupted comparison that began longer ago is not taken up again.
    let longestSeconds: Int

    public init(settings: DirectionSettings, verify: VerifySettings, longestSeconds: Int) {
        self.settings = settings
        self.verify = verify
        self.longestSeconds = longestSeconds
        direction = VerifyDirection(source: settings.sourceName, target: settings.targetName, backend: settings.backend)
    }

    /// What is told while it runs.
    public enum Event: Sendable {
        /// Taken up where an earlier one ended.
        case resumed
        case progress(VerifyProgress)
    }

    /// Compares tables.
    ///
    /// - Parameters:
    ///   - names: only these; empty for every table of the direction.
    ///   - restart: begins anew, even where an interrupted comparison could be taken up.
    /// - Throws: `VerifyError`, `PostgresError`.
    public func run(
        _ names: [QualifiedName] = [], restart: Bool = false, onEvent: @Sendable (Event) -> Void = { _ in }
    ) async throws -> VerifyReport {
        try await PostgresConnection.with(settings.source) { source in
            try await PostgresConnection.with(settings.target) { target in
                let control = VerifyPair(source: source, target: target)
                var pairs: [VerifyPair] = []
                do {
                    // The last is for borders, the one before for rechecks.
                    for _ in 0..<(verify.jobs + 2) { pairs.append(try await VerifyPair.connect(settings.source, settings.target)) }
                    let report = try await run(names, restart, control, pairs, onEvent)
                    for pair in pairs { await pair.close() }
                    return report
                } catch {
                    for pair in pairs { await pair.close() }
                    throw error
                }
            }
        }
    }

    private func run(
        _ names: [QualifiedName], _ restart: Bool, _ control: VerifyPair, _ pairs: [VerifyPair],
        _ onEvent: @Sendable (Event) -> Void
    ) async throws -> VerifyReport {
        let store = VerifyStore(connection: control.target, direction: direction.name)
        try await requireReady(control, store)
        if settings.backend == .split {
            try await SplitIdentity(forward: settings, sides: SidePair(origin: control.source, other: control.target)).require()
        }
        let seed = Int64.random(in: 0...Int64.max)
        let differsInEncoding = try await compareServers(control, seed: seed)
        let catalog = VerifyCatalog(
            settings: settings, direction: direction, source: control.source, target: control.target)
        let scope = try await catalog.scope(names)
        let (id, isResumed) = try await store.begin(
            scope: "\(scope.tables)", isWhole: names.isEmpty, restart: restart, longestSeconds: longestSeconds)
        if isResumed { onEvent(.resumed) }
        let places = try await store.places(id)
        let run = VerificationRun(
            id: id, settings: verify, store: store, pairs: Array(pairs.dropLast(2)), border: pairs[pairs.count - 1],
            recheck: RowRecheck(direction: direction, pair: pairs[pairs.count - 2], control: control),
            rate: CopyRate(bytesPerSecond: verify.rateLimitBytes), control: control)
        var report = VerifyReport(direction: direction.name)
        report.skipped = scope.skipped
        for table in scope.tables { report.compared[table.name] = table }
        var progress = VerifyProgress()
        progress.tablesTotal = scope.tables.count
        progress.rowsTotal = scope.rows.values.reduce(0, +)
        progress.rowsDone = places.values.reduce(0) { $0 + $1.figures.rows }
        progress.rowsBefore = progress.rowsDone
        for table in scope.tables {
            progress.table = table.name
            let before = report.differenceCount
            if let place = places[table.name], place.isFinished {
                report.tables.append(place.figures)
            } else {
                let sql = VerifySQL(table: table, seed: seed, differsInEncoding: differsInEncoding)
                let verifier = TableVerifier(sql, run: run, from: places[table.name])
                report.tables.append(
                    try await verifier.verify { rows, differences in
                        progress.rowsDone += rows
                        progress.differences = before + differences
                        onEvent(.progress(progress))
                    })
            }
            progress.tablesDone += 1
        }
        progress.table = nil
        onEvent(.progress(progress))
        try await store.finish(id, report.result)
        return report
    }

    // MARK: before

    private func requireReady(_ control: VerifyPair, _ store: VerifyStore) async throws {
        guard try await store.exists() else { throw VerifyError.notMigrated(database: direction.target) }
        guard try await store.lock() else { throw VerifyError.alreadyRunning(direction: direction.name) }
        // By a replica's rules a split's rows are the target's alone, or on their way back: to mend them would lose them.
        if settings.backend == .replica { try await ReplicaEnd.requireReplica(settings, on: control.target) }
        try await requirePrepared(direction.name, on: control.target, direction.target)
        if direction.isTwoWay { try await requirePrepared(direction.reverseName, on: control.source, direction.source) }
    }

    private func requirePrepared(_ name: String, on connection: PostgresConnection, _ database: String) async throws {
        let found = try await connection.query(
            "SELECT (prepared_at IS NOT NULL)::text FROM lindero.direction WHERE name = $1", [.text(name)])
        let isPrepared = found.firstValue == "true" || found.rowCount > 0 && settings.replication.snapshot == .never
        guard isPrepared else { throw VerifyError.notPrepared(direction: name, database: database) }
    }

    /// Whether texts have to be brought to one encoding first.
    private func compareServers(_ control: VerifyPair, seed: Int64) async throws -> Bool {
        var answers: [[String?]] = []
        for side in VerifySide.allCases {
            let row = try await control[side].query(
                """
                SELECT pg_catalog.hashtextextended('Lindero 0123456789' COLLATE pg_catalog."C", '\(seed)'::bigint)::text,
                  pg_catalog.getdatabaseencoding()
                """
            ).rows.first
            answers.append([row?[0], row?[1]])
        }
        guard answers[0][0] == answers[1][0] else { throw VerifyError.hashesDiffer }
        return answers[0][1] != answers[1][1]
    }
}
