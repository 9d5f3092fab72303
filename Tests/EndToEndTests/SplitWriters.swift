import PostgresClient
import Synchronization
import TestSupport

/// Set once, by any task.
private final class WritersEnd: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
}

/// Both services at work.
extension SplitPair {
    /// Runs `body` while both sides are written to: each writer is told its side and gives the next statement.
    func whileWritten(
        _ statement: @escaping @Sendable (_ side: String, _ random: inout SeededGenerator) -> String,
        _ body: () async throws -> Void
    ) async throws -> [String: Int] {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("writers' seed \(seed)")
        let isOver = WritersEnd()
        let writers = ["bot", "sync"].map { side in
            let url = environment[side == "bot" ? "DATABASE_URL" : "SYNC_DATABASE_URL"] ?? ""
            return Task {
                let writer = try await PostgresConnection.connect(ConnectionOptions(url))
                var random = SeededGenerator(seed: seed &+ (side == "bot" ? 0 : 1))
                var count = 0
                while !isOver.isSet {
                    let began = ContinuousClock.now
                    _ = try await writer.execute(statement(side, &random))
                    count += 1
                    // A service waits for its clients; and the slower the machine, the less it asks for.
                    try await Task.sleep(for: max(.milliseconds(10), began.duration(to: .now) * 3))
                }
                await writer.close()
                return count
            }
        }
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await body()) } catch { outcome = .failure(error) }
        isOver.set()
        let counts = try await [writers[0].value, writers[1].value]
        try outcome.get()
        return ["bot": counts[0], "sync": counts[1]]
    }

    /// A row of sixteen comes, goes or changes: for tables as `SplitWorkerTests` has them.
    @Sendable static func anything(_ side: String, _ random: inout SeededGenerator) -> String {
        let row = "\"bookingId\" = 'r-\(random.below(16))'"
        return switch random.below(6) {
        case 0: "DELETE FROM public.\"Reservas\" WHERE \(row)"
        case 1: "UPDATE public.\"Reservas\" SET visits = visits + 1, phone = '\(side)\(random.below(1_000))' WHERE \(row)"
        case 2: "UPDATE public.\"Reservas\" SET \"\(side == "bot" ? "crmNotes" : "status")\" = '\(random.below(1_000))' WHERE \(row)"
        case 3: "UPDATE public.\"Reservas\" SET \"updatedAt\" = now(), \"arrivalDate\" = date '2026-01-01' + \(random.below(99)) WHERE \(row)"
        default: "INSERT INTO public.\"Reservas\" (\"bookingId\", phone) VALUES ('r-\(random.below(16))', '\(side)') ON CONFLICT DO NOTHING"
        }
    }
}
