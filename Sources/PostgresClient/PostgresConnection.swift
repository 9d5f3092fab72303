import CLibPQ

/// A connection to a PostgreSQL server. Its work runs on a thread of its own; callers wait without blocking theirs.
///
/// Cancelling the calling task interrupts the wait at once: the server is asked to stop, and the call throws
/// `.cancelled`. The same happens at the end of a timeout. Afterwards the connection can be used again (an open
/// transaction has failed and wants a `ROLLBACK`), unless the server did not stop within two seconds; then it is
/// closed. Every call on a closed connection throws `.closed`.
public actor PostgresConnection {
    nonisolated let thread: ConnectionThread
    nonisolated let session: LibPQSession

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private init(_ options: ConnectionOptions) throws(PostgresError) {
        session = LibPQSession(options, wake: try WakeEvent())
        thread = ConnectionThread()
        thread.start()
    }

    deinit { thread.stop { [session] in session.close() } }

    /// Connects and sets the session up.
    ///
    /// - Throws: `.connection` when the server cannot be reached or refuses; `.cancelled`.
    public static func connect(_ options: ConnectionOptions) async throws(PostgresError) -> PostgresConnection {
        let connection = try PostgresConnection(options)
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

    /// Ends the connection and its thread. May be called again.
    public func close() {
        session.close()
        thread.stop()
    }

    // MARK: state

    /// The server's version as one number: 150018 is 15.18; 0 when closed.
    public var serverVersion: Int { session.serverVersion }

    /// Where the connection has ended up, of all the addresses that its options allow; `nil` when closed. The host is the
    /// folder of a socket, where it is one.
    public var peer: (host: String, port: Int, database: String)? { session.peer }

    /// Whether the connection is open and the server has not ended it, as far as can be known without waiting.
    public var isAlive: Bool { session.probe() }

    // MARK: statements

    /// Runs one statement by the extended protocol.
    ///
    /// - Parameters:
    ///   - parameterTypes: one OID for each of `$1…`, 0 or an empty list lets the server infer.
    ///   - binaryResult: whether cells come in their type's binary form.
    ///   - timeoutMilliseconds: after this the statement is stopped and `.timeout` is thrown.
    public func query(
        _ sql: String, _ parameters: [PostgresParameter] = [], parameterTypes: [UInt32] = [],
        binaryResult: Bool = false, timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> PostgresResult {
        try await session.call(isolation: self, timeoutMilliseconds: timeoutMilliseconds) {
            () throws(PostgresError) in
            try session.extended(sql, parameters, parameterTypes: parameterTypes, binaryResult: binaryResult)
        }
    }

    /// Runs a script of any number of statements by the simple protocol; the result of the last.
    @discardableResult
    public func execute(
        _ script: String, timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> PostgresResult {
        try await session.call(isolation: self, timeoutMilliseconds: timeoutMilliseconds) {
            () throws(PostgresError) in try session.simple(script)
        }
    }

    /// Prepares a statement under a name.
    public func prepare(_ name: String, _ sql: String, parameterTypes: [UInt32] = []) async throws(PostgresError) {
        try await session.call(isolation: self) { () throws(PostgresError) in
            guard PQsendPrepare(try session.idle(), name, sql, CInt(parameterTypes.count), parameterTypes) == 1
            else { throw session.notSent() }
            try session.flush()
            _ = try session.lastResult()
        }
    }

    /// Sends many requests at once and collects their results: one round trip, one Sync at the end.
    ///
    /// Without a `BEGIN` among the steps they are one implicit transaction.
    /// - Parameter whenSent: called once everything is on its way and only answers are waited for; on the connection's
    ///   thread, so it should be short. Not called when the connection fails before.
    /// - Throws: `PipelineError` naming the step that the server refused; `PostgresError` for everything else.
    /// - Returns: one result for each step.
    public func run(
        _ steps: [PipelineStep], whenSent: (@Sendable () -> Void)? = nil
    ) async throws -> [PostgresResult] {
        if steps.isEmpty { return [] }
        let outcome = try await session.call(isolation: self) { () throws(PostgresError) in
            try session.run(steps, whenSent: whenSent)
        }
        return try outcome.get()
    }

    /// Rolls back the transaction that is open, if one is. Works in a cancelled task too.
    ///
    /// - Throws: `.timeout` when the server does not answer within `timeoutMilliseconds`.
    public func rollback(timeoutMilliseconds: Int = 5_000) async throws(PostgresError) {
        try await session.call(isolation: self, timeoutMilliseconds: timeoutMilliseconds, isCancellable: false) {
            () throws(PostgresError) in
            guard PQtransactionStatus(try session.idle()) != PQTRANS_IDLE else { return }
            _ = try session.simple("ROLLBACK")
        }
    }
}
