import Glibc

/// A walsender session: slots and one stream. Like `PostgresConnection`, it has a thread of its own.
public actor ReplicationConnection {
    private nonisolated let thread: ConnectionThread
    private nonisolated let session: LibPQSession
    /// What the last batch needed, so that the next one rarely grows.
    private var expectedBytes = 0

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private init(_ options: ConnectionOptions) throws(PostgresError) {
        session = LibPQSession(options, wake: try WakeEvent())
        thread = ConnectionThread()
        thread.start()
    }

    deinit { thread.stop { [session] in session.close() } }

    /// Connects with `replication=database`.
    ///
    /// - Throws: `.connection` when the server cannot be reached or refuses; `.cancelled`.
    public static func connect(_ options: ConnectionOptions) async throws(PostgresError) -> ReplicationConnection {
        var options = options
        options.isReplication = true
        // A stream that leaves something out says so in a warning, which a role's own settings must not hide.
        options.settings.append((name: "client_min_messages", value: "warning"))
        let connection = try ReplicationConnection(options)
        try await connection.open()
        return connection
    }

    private func open() async throws(PostgresError) {
        do throws(PostgresError) {
            try await session.call(isolation: self) { () throws(PostgresError) in try session.open() }
        } catch {
            close()
            throw error
        }
    }

    /// Ends the connection and its thread, whatever is going on. May be called again.
    public func close() {
        session.close()
        thread.stop()
    }

    /// The server's version as one number: 150018 is 15.18; 0 when closed.
    public var serverVersion: Int { session.serverVersion }

    /// Whether the connection is open and the server has not ended it, as far as can be known without waiting.
    public var isAlive: Bool { session.probe() }

    // MARK: commands

    /// Runs a command of the replication protocol, or SQL by the simple protocol.
    @discardableResult
    public func execute(
        _ command: String, timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> PostgresResult {
        try await session.call(isolation: self, timeoutMilliseconds: timeoutMilliseconds) {
            () throws(PostgresError) in try session.simple(command)
        }
    }

    /// Asks which cluster and database this is.
    public func identifySystem() async throws(PostgresError) -> SystemIdentity {
        let result = try await execute("IDENTIFY_SYSTEM")
        guard let row = result.rows.first, let lsn = row[2].flatMap(ServerText.position) else {
            throw .protocolViolation("the answer to IDENTIFY_SYSTEM has no position")
        }
        return SystemIdentity(
            systemIdentifier: row[0] ?? "", timeline: row[1].flatMap { Int($0) } ?? 0, flushLSN: lsn,
            database: row[3])
    }

    /// Creates a logical slot for `pgoutput`. Waits for every transaction that is open now to end.
    ///
    /// - Parameters:
    ///   - temporary: whether the slot goes away with this connection.
    ///   - exportsSnapshot: whether other sessions can see the database exactly as it is where the slot begins.
    ///   - twoPhase: whether prepared transactions are sent when they are prepared.
    public func createSlot(
        _ name: String, temporary: Bool = false, exportsSnapshot: Bool = true, twoPhase: Bool = false,
        timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> CreatedSlot {
        // The older form of the options, which every version takes.
        var command = "CREATE_REPLICATION_SLOT \(ServerText.identifier(name))"
        if temporary { command += " TEMPORARY" }
        command += " LOGICAL pgoutput " + (exportsSnapshot ? "EXPORT_SNAPSHOT" : "NOEXPORT_SNAPSHOT")
        if twoPhase { command += " TWO_PHASE" }
        let result = try await execute(command, timeoutMilliseconds: timeoutMilliseconds)
        guard let row = result.rows.first, let point = row[1].flatMap(ServerText.position) else {
            throw .protocolViolation("the answer to CREATE_REPLICATION_SLOT has no position")
        }
        return CreatedSlot(name: row[0] ?? name, consistentPoint: point, snapshotName: row[2])
    }

    /// Drops a slot.
    ///
    /// - Parameter wait: whether to wait while another session holds it, rather than throw 55006.
    public func dropSlot(_ name: String, wait: Bool = false) async throws(PostgresError) {
        try await execute("DROP_REPLICATION_SLOT \(ServerText.identifier(name))\(wait ? " WAIT" : "")")
    }

    // MARK: the stream

    /// Starts the stream; the server sends transactions that committed at or after `lsn`, or at the slot's own
    /// confirmed position if that is later.
    public func startReplication(
        slot: String, at lsn: UInt64, options: [(String, String)]
    ) async throws(PostgresError) {
        let list = options.map { "\(ServerText.identifier($0.0)) \(ServerText.replicationLiteral($0.1))" }
        let command =
            "START_REPLICATION SLOT \(ServerText.identifier(slot)) LOGICAL \(ServerText.position(lsn)) "
            + "(\(list.joined(separator: ", ")))"
        try await session.call(isolation: self) { () throws(PostgresError) in
            try session.beginCopy(command, .stream)
        }
    }

    /// Waits for messages, then takes what is there up to about `maximumBytes`.
    ///
    /// Cancellation ends the wait with `.cancelled`; no message is lost, and the stream goes on.
    /// - Returns: an empty batch when nothing came within `waitMilliseconds`.
    /// - Throws: `.server` when the server ended the stream with an error, or warned that it leaves changes out.
    public func receive(maximumBytes: Int, waitMilliseconds: Int) async throws(PostgresError) -> ReplicationBatch {
        try await session.call(isolation: self) { () throws(PostgresError) in
            try take(maximumBytes: maximumBytes, waitMilliseconds: waitMilliseconds, beside: nil, isWorthGathering: { false })
        }
    }

    /// Runs what reads the stream message by message; once its task is cancelled, `receiveBlocking` throws `.cancelled`.
    ///
    /// One handler of the cancellation for all of it: of what a small transaction costs to receive, one for each was half.
    public func reading<Value>(
        _ body: @Sendable (isolated ReplicationConnection) async throws -> Value
    ) async throws -> Value {
        session.wake.clear()
        return try await withTaskCancellationHandler {
            try await body(self)
        } onCancel: { [wake = session.wake] in
            wake.raise()
        }
    }

    /// The same as `receive` on this connection's own thread, which waits; inside of `reading`.
    ///
    /// - Parameter isWorthGathering: asked each time the socket is empty; while it says yes, messages gather for a
    ///   moment. The server sends one by one, and waking for each costs more than the message; a caller that has work
    ///   left loses nothing by waiting.
    /// - Parameter beside: a session that somebody lends this thread, whose answers are taken while nothing comes here.
    public func receiveBlocking(
        maximumBytes: Int, waitMilliseconds: Int, beside: BesideSession? = nil, isWorthGathering: () -> Bool
    ) throws(PostgresError) -> ReplicationBatch {
        try session.withinLimits(timeoutMilliseconds: nil, isCancellable: true) { () throws(PostgresError) in
            try take(
                maximumBytes: maximumBytes, waitMilliseconds: waitMilliseconds, beside: beside, isWorthGathering: isWorthGathering)
        }
    }

    private func take(
        maximumBytes: Int, waitMilliseconds: Int, beside: BesideSession?, isWorthGathering: () -> Bool
    ) throws(PostgresError) -> ReplicationBatch {
        let batch = try session.receive(
            maximumBytes: maximumBytes, waitMilliseconds: waitMilliseconds, capacity: expectedBytes, beside: beside,
            isWorthGathering: isWorthGathering)
        expectedBytes = batch.bytes.count + batch.bytes.count / 8
        return batch
    }

    /// Tells the server how far we are. Works in a cancelled task too, and takes ten seconds at most.
    ///
    /// - Parameter flushed: the server may forget everything before it.
    public func sendStatus(
        received: UInt64, flushed: UInt64, applied: UInt64, replyRequested: Bool = false
    ) throws(PostgresError) {
        let status = StandbyStatus(
            received: received, flushed: flushed, applied: applied, isReplyRequested: replyRequested)
        try session.withinLimits(timeoutMilliseconds: nil, isCancellable: false) { () throws(PostgresError) in
            try session.putStatus(status)
        }
    }

    /// Ends the stream in order, throwing away what the server still sends. Works in a cancelled task too, and takes
    /// ten seconds at most. Does nothing when there is no stream.
    public func stop() async throws(PostgresError) {
        try await session.call(isolation: self, isCancellable: false) { () throws(PostgresError) in
            try session.stopStream()
        }
    }
}
