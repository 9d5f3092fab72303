import PostgresClient
import ReplicationCore

/// The applying transaction on the target, with the progress that commits together with it.
struct TargetTransaction {
    let connection: PostgresConnection
    let direction: String
    private(set) var isOpen = false
    /// Whether the statements of a commit are prepared on this connection.
    private var hasStatements = false
    /// Whether a piece of a large source transaction is in it, or what a refused commit has left.
    var hasPiece: Bool { isOpen }
    /// Whether what is in it may still be taken back: it has not committed at the source, or the group before it not here.
    private(set) var isEarly = false

    init(connection: PostgresConnection, direction: String) {
        self.connection = connection
        self.direction = direction
    }

    /// Runs steps, in a transaction begun by the first of them; results of the steps alone.
    mutating func run(
        _ steps: [PipelineStep], whenSent: (@Sendable () -> Void)? = nil
    ) async throws -> [PostgresResult] {
        guard !isOpen else { return try await connection.run(steps, whenSent: whenSent) }
        isOpen = true
        do {
            let results = try await connection.run([beginStep] + steps, whenSent: whenSent)
            return Array(results.dropFirst())
        } catch var failure as PipelineError {
            // Counted in the caller's steps.
            failure.stepIndex -= 1
            throw failure
        }
    }

    /// How long a transaction that still runs at the source waits for a lock, in milliseconds. Those that have committed
    /// meanwhile wait behind it.
    private static let earlyLockMilliseconds = 2_000

    /// Begins, unless it has, a transaction that waits for nobody long.
    mutating func beginEarly(lockMilliseconds: Int = Self.earlyLockMilliseconds) async throws {
        if isOpen { return }
        isEarly = true
        try await limitLocks(milliseconds: lockMilliseconds)
    }

    /// What is in it is to stay: from here on it waits as long as it takes.
    mutating func endEarly() async throws {
        guard isEarly else { return }
        isEarly = false
        try await limitLocks(milliseconds: 0)
    }

    private mutating func limitLocks(milliseconds: Int) async throws {
        let limit = "SET LOCAL lock_timeout = '\(milliseconds)ms'"
        _ = try await run([.query(sql: limit, parameters: [], parameterTypes: [])])
    }

    /// Copies rows in; how many the server took.
    mutating func copy(_ copy: RowCopy, whenSent: (@Sendable () -> Void)?) async throws -> Int {
        if !isOpen { _ = try await run([]) }
        return try await connection.copy(copy, whenSent: whenSent)
    }

    /// What a commit sends, and how its answer is to be read.
    struct Ending: Sendable {
        fileprivate var steps: [PipelineStep]
        /// How many come before the caller's.
        fileprivate var precedingCount = 0
        /// The step that commits, and the one that is the progress alone, if any is; counted in the caller's steps.
        fileprivate var commitStep: Int?
        fileprivate var progressStep: Int?
        fileprivate var asksPosition = false
    }

    /// What commits data and progress together; the original commit time is kept.
    ///
    /// - Parameter endLSN: end of the last source commit that the transaction holds.
    /// - Parameter figures: what the worker measured, left on the target for readers elsewhere.
    /// - Parameter batch: the last of it, in the same round trip; it may write the progress itself.
    /// - Parameter asksConstraints: whether something may wait for the commit.
    /// - Parameter asksPosition: whether to ask where the target's own log stands afterwards.
    /// - Parameter behind: end of the last source commit that was sent before, if that may still fail: then all of this does.
    func ending(
        endLSN: LSN, behind: LSN? = nil, commitTime: PostgresTime?, heartbeat: Heartbeat?, figures: LiveFigures = LiveFigures(),
        after batch: StepBatch = StepBatch(), asksConstraints: Bool = true, asksPosition: Bool = true
    ) -> Ending {
        let time = commitTime ?? heartbeat?.sentAt
        let place = Self.parameters(direction, endLSN, time, behind: behind)
        let data = batch.steps(writing: place, then: Self.parameters(direction, endLSN, time, behind: nil))
        let progress =
            batch.takesProgress
            ? [] : [PipelineStep.execute(name: "lindero_progress", parameters: place, binaryResult: false)]
        // What fits one round trip needs no BEGIN and no COMMIT: until the Sync at its end it is one transaction.
        if !isOpen && hasStatements && !asksConstraints && !asksPosition && heartbeat == nil {
            return Ending(steps: data + progress, progressStep: progress.isEmpty ? nil : data.count)
        }
        var steps = data
        if !hasStatements { steps += Self.preparation }
        // What waits for the commit is asked for now: an error there would come too late to find the change behind it.
        if asksConstraints && (isOpen || !data.isEmpty) {
            steps.append(.execute(name: "lindero_constraints", parameters: [], binaryResult: false))
        }
        if let heartbeat {
            steps.append(Self.seen(direction: direction, heartbeat: heartbeat, endLSN: endLSN, figures: figures))
        }
        let progressStep = progress.isEmpty ? nil : steps.count
        steps += progress
        let commitStep = steps.count
        steps.append(.execute(name: "lindero_commit", parameters: [], binaryResult: false))
        if asksPosition { steps.append(.execute(name: "lindero_position", parameters: [], binaryResult: false)) }
        let beginning = isOpen ? [] : [beginStep]
        return Ending(
            steps: beginning + steps, precedingCount: beginning.count, commitStep: commitStep, progressStep: progressStep,
            asksPosition: asksPosition)
    }

    /// - Returns: where the target's own log stands afterwards, if that is asked.
    /// - Throws: `PipelineError`, counted in the caller's steps.
    @discardableResult
    mutating func commit(_ ending: Ending) async throws -> LogPosition? {
        begin(ending)
        do {
            return try finish(ending, try await connection.run(ending.steps))
        } catch let failure as PipelineError {
            throw Self.named(failure, ending)
        }
    }

    /// Sends an ending on the calling thread, to which the connection is lent, behind those that are not answered yet.
    mutating func sendLent(
        _ ending: Ending, patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws(PostgresError) {
        // What comes behind it finds them prepared, or fails as it does.
        if ending.commitStep != nil { hasStatements = true }
        try connection.sendLent(
            ending.steps, keepsResults: ending.asksPosition, patienceMilliseconds: patienceMilliseconds, whileWaiting: whileWaiting)
    }

    /// What the first ending that was sent has come to; as `commit`.
    mutating func handleLent(_ answer: Result<[PostgresResult], PipelineError>, to ending: Ending) throws -> LogPosition? {
        switch answer {
        case .success(let results): return try finish(ending, results)
        case .failure(let failure):
            begin(ending)
            throw Self.named(failure, ending)
        }
    }

    /// Refused, it leaves a transaction that has to be rolled back; but not where the Sync is its end.
    private mutating func begin(_ ending: Ending) { isOpen = isOpen || ending.commitStep != nil }

    private mutating func finish(_ ending: Ending, _ results: [PostgresResult]) throws -> LogPosition? {
        if ending.commitStep != nil { hasStatements = true }
        isOpen = false
        return ending.asksPosition ? try LogPosition(results.last) : nil
    }

    /// The error that a failure is, counted in the caller's steps: of the progress alone, its row is gone.
    private static func named(_ failure: PipelineError, _ ending: Ending) -> any Error {
        var failure = failure
        failure.stepIndex -= ending.precedingCount
        if let commitStep = ending.commitStep, failure.stepIndex > commitStep {
            // It is committed: whoever believed that it is not would apply it again.
            return PostgresError.closed("after a commit the target did not say where its log stands: \(failure.error)")
        }
        return failure.stepIndex == ending.progressStep && failure.error.sqlState == divisionByZero ? ProgressError.noRow : failure
    }

    private static func parameters(
        _ direction: String, _ endLSN: LSN, _ time: PostgresTime?, behind: LSN?
    ) -> [PostgresParameter] {
        [
            .text(direction), .binary(bigEndian(endLSN.rawValue)),
            time.map { .binary(bigEndian(UInt64(bitPattern: $0.microseconds))) } ?? .null,
            behind.map { .binary(bigEndian($0.rawValue)) } ?? .null,
        ]
    }

    /// Prepares the transaction under a name; it is then no longer this session's. Always waits for the disk.
    ///
    /// - Throws: `PipelineError`, counted in the caller's steps.
    mutating func prepare(
        as name: String, endLSN: LSN, time: PostgresTime, after data: [PipelineStep]
    ) async throws {
        _ = try await run(
            data + [
                .query(sql: "SET CONSTRAINTS ALL IMMEDIATE", parameters: [], parameterTypes: []),
                .query(sql: Self.originSQL, parameters: Self.origin(endLSN, time), parameterTypes: Self.originTypes),
                .query(sql: "PREPARE TRANSACTION \(SQLText.literal(name))", parameters: [], parameterTypes: []),
            ])
        isOpen = false
    }

    /// Ends a prepared transaction; the server marks the origin's place in the same record. Always waits for the disk.
    static func end(
        _ name: String, commits: Bool, endLSN: LSN, time: PostgresTime, on connection: PostgresConnection
    ) async throws(PostgresError) {
        _ = try await connection.query(originSQL, origin(endLSN, time), parameterTypes: originTypes)
        _ = try await connection.execute("\(commits ? "COMMIT" : "ROLLBACK") PREPARED \(SQLText.literal(name))")
    }

    private static let originSQL = "SELECT pg_catalog.pg_replication_origin_xact_setup($1, $2)"
    private static let originTypes = [OID.pgLSN, OID.timestamptz]

    private static func origin(_ endLSN: LSN, _ time: PostgresTime) -> [PostgresParameter] {
        [.binary(bigEndian(endLSN.rawValue)), .binary(bigEndian(UInt64(bitPattern: time.microseconds)))]
    }

    /// Where the target's log stands now.
    static func position(_ connection: PostgresConnection) async throws -> LogPosition {
        try LogPosition(await connection.query(positionSQL))
    }

    /// After a failed pipeline nothing that it prepared is certain.
    mutating func forgetStatements() async throws {
        _ = try await connection.execute("DEALLOCATE ALL")
        hasStatements = false
    }

    private var beginStep: PipelineStep { hasStatements ? Self.preparedBegin : Self.begin }
    private static let begin = PipelineStep.query(sql: "BEGIN", parameters: [], parameterTypes: [])
    /// The progress alone: a transaction that writes nothing else has a commit record by it.
    private static let progress = FusedStatement.sql([], plans: [])
    private static let preparedBegin = PipelineStep.execute(name: "lindero_begin", parameters: [], binaryResult: false)
    private static let preparation: [PipelineStep] = [
        .prepare(name: "lindero_begin", sql: "BEGIN", parameterTypes: []),
        .prepare(name: "lindero_commit", sql: "COMMIT", parameterTypes: []),
        .prepare(name: "lindero_progress", sql: progress.text, parameterTypes: progress.parameterTypes),
        .prepare(name: "lindero_constraints", sql: "SET CONSTRAINTS ALL IMMEDIATE", parameterTypes: []),
        .prepare(name: "lindero_position", sql: positionSQL, parameterTypes: []),
    ]
    private static let positionSQL =
        "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.pg_current_wal_flush_lsn()::text, "
        + "pg_catalog.current_setting('synchronous_standby_names')"
    private static let divisionByZero = SQLState("22012")

    /// Ends the transaction without effect, in a cancelled task, too: what is taken for ended and is not would commit with
    /// what comes next. A connection that cannot is closed.
    mutating func rollBack() async {
        isEarly = false
        guard isOpen else { return }
        isOpen = false
        do {
            try await connection.rollback()
        } catch {
            await connection.close()
        }
    }

    static func seen(
        direction: String, heartbeat: Heartbeat, endLSN: LSN, figures: LiveFigures
    ) -> PipelineStep {
        let time = PostgresParameter.binary(bigEndian(UInt64(bitPattern: heartbeat.sentAt.microseconds)))
        return .query(
            sql: """
                INSERT INTO lindero.heartbeat (direction, source_lsn, sent_at, seen_at, p50_ms, p95_ms, p99_ms, rows_per_second)
                VALUES ($1, $2, $3, clock_timestamp(), $4, $5, $6, $7)
                ON CONFLICT (direction) DO UPDATE SET source_lsn = excluded.source_lsn,
                  sent_at = excluded.sent_at, seen_at = excluded.seen_at,
                  p50_ms = excluded.p50_ms, p95_ms = excluded.p95_ms, p99_ms = excluded.p99_ms,
                  rows_per_second = excluded.rows_per_second
                """,
            parameters: [.text(direction), .binary(bigEndian(endLSN.rawValue)), time]
                + figures.values.map { value in value.map { .binary(bigEndian($0.bitPattern)) } ?? .null },
            parameterTypes: [OID.text, OID.pgLSN, OID.timestamptz] + figures.values.map { _ in OID.float8 })
    }
}

/// Where a server's log ends, and how much of it is on disk.
struct LogPosition: Sendable {
    var insertLSN: LSN
    var flushLSN: LSN
    /// The server's `synchronous_standby_names`: the session's way to commit was chosen by it.
    var standbys: String

    init(_ result: PostgresResult?) throws {
        guard let row = result?.rows.first, let insert = row[0].flatMap({ LSN($0) }),
            let flush = row[1].flatMap({ LSN($0) })
        else { throw PostgresError.protocolViolation("the answer to a question for the log's position has none") }
        (insertLSN, flushLSN, standbys) = (insert, flush, row[2] ?? "")
    }
}

/// The direction's row is gone from the target: somebody removed it while the worker ran.
enum ProgressError: Error { case noRow }

/// A worker's own measurements; `nil` until there are any.
struct LiveFigures: Sendable {
    var p50Milliseconds: Double?
    var p95Milliseconds: Double?
    var p99Milliseconds: Double?
    var rowsPerSecond: Double?

    var values: [Double?] { [p50Milliseconds, p95Milliseconds, p99Milliseconds, rowsPerSecond] }
}

/// OIDs of the built-in types that Lindero itself passes.
enum OID {
    static let bytea: UInt32 = 17
    static let text: UInt32 = 25
    static let float8: UInt32 = 701
    static let timestamptz: UInt32 = 1184
    static let bigint: UInt32 = 20
    static let pgLSN: UInt32 = 3220
    static let oidArray: UInt32 = 1028
    static let textArray: UInt32 = 1009
}

/// Network byte order, as binary parameters want it.
func bigEndian(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
