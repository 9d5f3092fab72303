import PostgresClient

/// Says now and then, while whoever holds rows waits for something else, that the transaction is somebody's still: its server
/// ends it else, since this process may have been cut off.
struct SignOfLife {
    private let everyMilliseconds: Int64
    private let give: @Sendable () async throws -> Void
    private var givenAt = Monotonic.milliseconds()

    /// - Parameter holder: whose transaction holds the rows; `nil` where none does.
    init(of holder: PostgresConnection?, everyMilliseconds: Int) {
        self.everyMilliseconds = Int64(everyMilliseconds)
        give = { _ = try await holder?.execute("SELECT") }
    }

    /// To be asked as often as the wait is interrupted.
    mutating func giveIfDue() async throws {
        let now = Monotonic.milliseconds()
        guard now - givenAt >= everyMilliseconds else { return }
        givenAt = now
        try await give()
    }
}
