/// Lets cancellation of a task wake the connection's thread while it waits for a socket.
enum Interruption {
    static func run<Value>(
        _ wake: WakeEvent, isolation: isolated (any Actor)?, _ body: () throws(PostgresError) -> Value
    ) async throws(PostgresError) -> Value {
        if Task.isCancelled { throw .cancelled }
        wake.clear()
        do {
            return try await withTaskCancellationHandler {
                // A closure takes part in an isolation parameter only when it captures it. Without this line `body`
                // would run, and block, on the cooperative pool instead of the connection's thread.
                _ = isolation
                return try body()
            } onCancel: {
                wake.raise()
            }
        } catch let error as PostgresError {
            throw error
        } catch {
            throw .protocolViolation("\(error)")
        }
    }
}
