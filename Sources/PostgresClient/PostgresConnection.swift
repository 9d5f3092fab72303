import CLibPQ
import Foundation

/// A connection to a PostgreSQL server. Its work runs on a thread of its own; callers wait without blocking theirs.
///
/// Cancelling the calling task interrupts a statement: the server is asked to stop, and the call throws `.cancelled`.
public actor PostgresConnection {
    private nonisolated let thread: ConnectionThread
    nonisolated let wake: WakeEvent
    private(set) var session: LibPQSession?

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private init() throws(PostgresError) {
        wake = try WakeEvent()
        thread = ConnectionThread(name: "postgres")
    }

    deinit { thread.stop() }

    /// Connects and sets the session up.
    ///
    /// - Throws: `.connection` when the server cannot be reached or refuses; `.cancelled`.
    public static func connect(_ options: ConnectionOptions) async throws(PostgresError) -> PostgresConnection {
        let connection = try PostgresConnection()
        try await connection.open(options)
        return connection
    }

    private func open(_ options: ConnectionOptions) async throws(PostgresError) {
        session = try await interruptible { () throws(PostgresError) in try LibPQSession(options, wake: wake) }
    }

    /// The server's version as one number: 150018 is 15.18.
    public var serverVersion: Int { session?.serverVersion ?? 0 }
    public var isAlive: Bool { session?.isOpen ?? false }

    /// Ends the connection; everything afterwards throws `.closed`.
    public func close() {
        session?.finish()
        session = nil
    }

    /// Runs one statement by the extended protocol.
    ///
    /// - Parameters:
    ///   - parameterTypes: OIDs for `$1…`; empty lets the server infer them.
    ///   - timeoutMilliseconds: after this the statement is stopped and `.timeout` is thrown.
    public func query(
        _ sql: String, _ parameters: [PostgresParameter] = [], parameterTypes: [UInt32] = [],
        binaryResult: Bool = false, timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> PostgresResult {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            return try session.interruptible(timeoutMilliseconds: timeoutMilliseconds) { deadline throws(PostgresError) in
                let handle = try session.connection()
                let sent = ParameterBlock.withArguments(parameters) {
                    PQsendQueryParams(
                        handle, sql, $0.count, parameterTypes.isEmpty ? nil : parameterTypes, $0.values, $0.lengths,
                        $0.formats, binaryResult ? 1 : 0)
                }
                guard sent == 1 else { throw session.lost() }
                try session.flush(deadline: deadline)
                return try session.lastResult(deadline: deadline)
            }
        }
    }

    /// Runs a script of any number of statements by the simple protocol; the result of the last.
    public func execute(
        _ script: String, timeoutMilliseconds: Int? = nil
    ) async throws(PostgresError) -> PostgresResult {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            return try session.interruptible(timeoutMilliseconds: timeoutMilliseconds) { deadline throws(PostgresError) in
                try session.simple(script, deadline: deadline)
            }
        }
    }

    /// Prepares a statement under a name.
    public func prepare(_ name: String, _ sql: String, parameterTypes: [UInt32] = []) async throws(PostgresError) {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                guard PQsendPrepare(try session.connection(), name, sql, Int32(parameterTypes.count), parameterTypes) == 1
                else { throw session.lost() }
                try session.flush(deadline: deadline)
                _ = try session.lastResult(deadline: deadline)
            }
        }
    }

    /// Sends many requests at once and collects their results: one round trip, one Sync at the end.
    ///
    /// Without a `BEGIN` among the steps they are one implicit transaction.
    /// - Throws: `PipelineError` naming the failed step; `PostgresError` when the connection broke.
    public func run(_ steps: [PipelineStep]) async throws -> [PostgresResult] {
        let outcome = try await interruptible { () throws(PostgresError) -> Result<[PostgresResult], any Error> in
            let session = try opened()
            return Result { try session.run(steps) }
        }
        return try outcome.get()
    }

    func opened() throws(PostgresError) -> LibPQSession {
        guard let session else { throw .closed("It was closed before.") }
        guard session.isOpen else { throw session.lost() }
        return session
    }

    /// Lets cancellation of the task wake the thread while `body` waits in it.
    func interruptible<Value>(_ body: () throws(PostgresError) -> Value) async throws(PostgresError) -> Value {
        try await Interruption.run(wake, isolation: self, body)
    }
}
