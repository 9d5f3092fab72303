import CLibPQ

/// A connection whose own thread waits for somebody else's: that one may use it meanwhile, so that neither has to wake the other.
///
/// All of this is only for whom the connection's owner waits, blocking the connection's thread until every answer is taken:
/// nothing else can use it then.
extension PostgresConnection {
    /// Sends steps and a Sync on the calling thread, behind those whose answers are not taken yet; they may fail without these.
    ///
    /// - Parameters:
    ///   - keepsResults: whether their results are wanted, or only whether they were refused.
    ///   - patienceMilliseconds: how often `whileWaiting` is called while the server takes nothing.
    /// - Throws: as `run`; `.cancelled` after `interrupt`, also after one that came before: a task is cancelled once, so
    ///   nothing is cleared here. What the other steps came to is unknown then.
    public nonisolated func sendLent(
        _ steps: [PipelineStep], keepsResults: Bool = true, patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws(PostgresError) {
        try session.withinLimits(timeoutMilliseconds: nil, isCancellable: true) { () throws(PostgresError) in
            try session.seeing(everyMilliseconds: patienceMilliseconds, whileWaiting) { () throws(PostgresError) in
                try session.send(steps, keepsResults: keepsResults)
            }
        }
    }

    /// Waits on the calling thread for what the first steps sent have come to.
    ///
    /// - Throws: as `sendLent`; what the steps were refused for is in the result.
    public nonisolated func awaitLent(
        patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        try session.withinLimits(timeoutMilliseconds: nil, isCancellable: true) { () throws(PostgresError) in
            try session.seeing(everyMilliseconds: patienceMilliseconds, whileWaiting) { () throws(PostgresError) in
                try session.awaitRun()
            }
        }
    }

    /// The same, without waiting; `nil` when the server has not answered all of it.
    public nonisolated func takeLent() throws(PostgresError) -> Result<[PostgresResult], PipelineError>? { try session.takeRun() }

    /// Where the answers come, for who waits for something else besides; `nil` when the connection is lost.
    nonisolated var lentSocket: CInt? { (try? session.opened()).map { PQsocket($0) } }

    /// Ends a wait that is going on: of its task this connection does not know.
    public nonisolated func interrupt() { session.wake.raise() }
}

/// A session that is lent to who waits for a stream.
public struct BesideSession: Sendable {
    /// The session, while answers are to come.
    var connection: @Sendable () -> PostgresConnection?
    /// Takes those that have come; whether the wait may go on.
    var take: @Sendable () -> Bool

    public init(connection: @escaping @Sendable () -> PostgresConnection?, take: @escaping @Sendable () -> Bool) {
        self.connection = connection
        self.take = take
    }
}
