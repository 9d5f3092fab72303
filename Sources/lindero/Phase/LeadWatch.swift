import PostgresClient
import ReplicationCore
import Replicator

/// Sees to it that a work is done by the one who leads, and by nobody else: the lead is a lock of one session, and ends with it.
struct LeadWatch: Sendable {
    private static let betweenMilliseconds = 500
    /// How long the server may take to answer; its own end of a connection that is cut lives no shorter.
    private static let answerMilliseconds = 20_000

    /// The session that leads.
    let connection: PostgresConnection
    let place: String
    let command: String

    /// Runs `body` for as long as the session lives.
    ///
    /// - Throws: what `body` throws, or that the lead was lost: `body` was cancelled then, and has ended.
    func whileLeading<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        do {
            return try await withThrowingTaskGroup(of: Value?.self) { group in
                group.addTask { try await body() }
                group.addTask {
                    try await waitForLoss()
                    throw lost
                }
                defer { group.cancelAll() }
                while let found = try await group.next() {
                    if let found { return found }
                }
                throw lost
            }
        } catch {
            // The work may have needed the session before the watch looked at it again.
            if !Task.isCancelled, await !connection.isAlive { throw lost }
            throw error
        }
    }

    private func waitForLoss() async throws {
        while true {
            try await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
            do {
                _ = try await connection.query("SELECT 1", timeoutMilliseconds: Self.answerMilliseconds)
            } catch {
                try Task.checkCancellation()
                return
            }
        }
    }

    private var lost: CommandFailure {
        CommandFailure(
            "lead_lost", "The session that leads the move was lost, so somebody else may lead it now; nothing more was done here.", place: place,
            nextStep: "`lindero status` says who leads; if nobody does, `lindero \(command)` goes on.")
    }
}
