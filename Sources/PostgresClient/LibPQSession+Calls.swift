extension LibPQSession {
    /// Runs one call of an actor on its thread, within a deadline, and lets cancellation of the task wake it.
    ///
    /// `body` blocks the thread and never suspends, so calls on one connection cannot mix.
    /// - Parameter isCancellable: false for the calls that clean up, which a cancelled task must still be able to make.
    func call<Value>(
        isolation: isolated any Actor, timeoutMilliseconds: Int? = nil, isCancellable: Bool = true,
        _ body: () throws(PostgresError) -> Value
    ) async throws(PostgresError) -> Value {
        guard isCancellable else {
            return try withinLimits(timeoutMilliseconds: timeoutMilliseconds, isCancellable: false, body)
        }
        if Task.isCancelled {
            // As it would be if the cancellation came a little later, in the middle of the copy.
            if mode == .copyIn || mode == .copyOut { recover() }
            throw .cancelled
        }
        wake.clear()
        let outcome: Result<Value, PostgresError> = await withTaskCancellationHandler {
            // Only a closure that captures the actor runs on its thread; another would block Swift's pool.
            _ = isolation
            do throws(PostgresError) {
                return .success(
                    try withinLimits(timeoutMilliseconds: timeoutMilliseconds, isCancellable: true, body))
            } catch {
                return .failure(error)
            }
        } onCancel: { [wake] in
            wake.raise()
        }
        return try outcome.get()
    }
}
