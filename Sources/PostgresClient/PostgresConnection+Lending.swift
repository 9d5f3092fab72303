/// A connection whose own thread waits for somebody else's: that one may use it meanwhile, so that neither has to wake the other.
extension PostgresConnection {
    /// Runs steps as `run` does, but on the calling thread, which it blocks.
    ///
    /// Only for whom the connection's owner waits, blocking the connection's thread until this has returned: nothing else can
    /// use it then.
    /// - Parameter patienceMilliseconds: how often `whileWaiting` is called while the server takes or says nothing.
    /// - Throws: as `run`; `.cancelled` after `interrupt`, also after one that came before: a task is cancelled once, so
    ///   nothing is cleared here.
    public nonisolated func runLent(
        _ steps: [PipelineStep], patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws -> [PostgresResult] {
        try session.withinLimits(timeoutMilliseconds: nil, isCancellable: true) { () throws(PostgresError) in
            try session.seeing(everyMilliseconds: patienceMilliseconds, whileWaiting) { () throws(PostgresError) in
                try session.run(steps)
            }
        }.get()
    }

    /// Ends a `runLent` that is going on: of its task this connection does not know.
    public nonisolated func interrupt() { session.wake.raise() }
}
