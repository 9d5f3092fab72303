import PostgresClient
import ReplicationCore

/// Finds the change behind an error that comes at a transaction's end, by asking after each change what waits for that end.
///
/// What is violated for a while and right again before the end is no error. So the change is the one that the last wrong
/// stretch begins with: all was right before it, and never was again.
struct LateRefusal {
    /// The source transaction that is looked at; zero for none.
    var commitLSN = LSN.zero
    private var suspect: FailedChange?
    /// Each question looks at all of a wrong stretch; from so many on, ever more changes of it are passed over between two.
    private static let nearQuestions = 1_000
    private var questions = 0
    private var gap = 0
    private var passed = 0

    init(commitLSN: LSN = .zero) { self.commitLSN = commitLSN }

    /// - Parameters:
    ///   - change: what was just run; `nil` for a change that is not applied.
    ///   - isLast: whether the transaction ends with it.
    /// - Throws: `ApplyError.refused` at the end of a transaction that the target refuses, by name.
    mutating func ask(after change: FailedChange?, isLast: Bool, _ executor: GroupExecutor) async throws {
        guard executor.hasPiece else { return }
        passed += 1
        guard isLast || passed > gap else { return }
        passed = 0
        guard let error = try await refusal(executor.connection) else {
            (suspect, questions, gap) = (nil, 0, 0)
            return
        }
        suspect = suspect ?? change
        questions += 1
        if questions >= Self.nearQuestions { gap = 2 * gap + 1 }
        if isLast { throw ApplyError.refused(suspect, error) }
    }

    /// What the end would be refused for now; `nil` when nothing is wrong.
    private func refusal(_ connection: PostgresConnection) async throws -> PostgresError? {
        _ = try await connection.execute("SAVEPOINT lindero_late")
        do {
            _ = try await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        } catch {
            guard error.isOfRow else { throw error }
            // What waited waits again.
            _ = try await connection.execute("ROLLBACK TO SAVEPOINT lindero_late; RELEASE SAVEPOINT lindero_late")
            return error
        }
        _ = try await connection.execute("RELEASE SAVEPOINT lindero_late; SET CONSTRAINTS ALL DEFERRED")
        return nil
    }
}
