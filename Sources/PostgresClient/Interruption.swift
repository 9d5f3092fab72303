/// Lets cancellation of a task wake the connection's thread while it waits for a socket.
enum Interruption {
    static func run<Value>(
        _ wake: WakeEvent, isolation: isolated (any Actor)?, _ body: () throws(PostgresError) -> Value
    ) async throws(PostgresError) -> Value {
        if Task.isCancelled { throw .cancelled }
        wake.clear()
        do {
            return try await withTaskCancellationHandler {
                try body()
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
