import PostgresClient
import Synchronization
import TestSupport

/// A service that writes all the time, one transaction after the other, and remembers what was acknowledged.
final class LiveService: Sendable {
    /// One of its writes; `number` rises with each.
    typealias Write = @Sendable (_ connection: PostgresConnection, _ number: Int) async throws -> Void

    private static let rest = Duration.milliseconds(4)

    private struct State {
        var acknowledged = 0
        var failures: [String] = []
        var url: String
        var isEnding = false
    }

    private let state: Mutex<State>
    private let write: Write
    private let task = Mutex<Task<Void, Never>?>(nil)

    init(url: String, _ write: @escaping Write) {
        state = Mutex(State(url: url))
        self.write = write
    }

    /// The number of the last write that was acknowledged.
    var acknowledged: Int { state.withLock { $0.acknowledged } }
    var failures: [String] { state.withLock { $0.failures } }

    /// From its next write on it writes there.
    func move(to url: String) { state.withLock { $0.url = url } }

    func start() {
        task.withLock { $0 = Task { await run() } }
    }

    func end() async {
        state.withLock { $0.isEnding = true }
        await task.withLock { $0 }?.value
    }

    private func run() async {
        var connection: PostgresConnection?
        var place = ""
        while true {
            let (url, number, isEnding) = state.withLock { ($0.url, $0.acknowledged + 1, $0.isEnding) }
            if isEnding { break }
            do {
                if connection == nil || place != url {
                    await connection?.close()
                    var options = ConnectionOptions(url)
                    // Not what Lindero's own sessions ask for, which a pgbouncer need not know.
                    options.usesPinnedSettings = false
                    options.applicationName = "a service"
                    connection = try await PostgresConnection.connect(options)
                    place = url
                }
                let began = ContinuousClock.now
                if let connection { try await write(connection, number) }
                state.withLock { $0.acknowledged = number }
                // A service, not a benchmark: the other tests run beside it, and where they leave little it asks for less.
                try await Task.sleep(for: max(Self.rest, began.duration(to: .now) * 2))
            } catch {
                state.withLock { $0.failures.append("\(number): \(error)") }
                await connection?.close()
                connection = nil
                if state.withLock({ $0.failures.count > 100 }) { break }
            }
        }
        await connection?.close()
    }
}

extension LiveService {
    /// Both services of a pair, each under its own role, on the database that holds everything at first: `bot` writes its notes,
    /// `sync` its states, and a new row with each.
    static func both(of pair: SplitPair) -> (bot: LiveService, sync: LiveService) {
        let bot = LiveService(url: pair.url("bot", as: "bot_app")) { connection, number in
            _ = try await connection.execute(
                "UPDATE public.\"Reservas\" SET \"crmNotes\" = '\(number)' WHERE \"bookingId\" = 'b\(number % 100 + 1)'")
        }
        let sync = LiveService(url: pair.url("bot", as: "sync_app")) { connection, number in
            _ = try await connection.execute("""
                UPDATE public."Reservas" SET status = '\(number)' WHERE "bookingId" = 'b\(number % 100 + 1)';
                INSERT INTO public."Reservas" ("bookingId", status, phone) VALUES ('n\(number)', 'made', '1')
                """)
        }
        return (bot, sync)
    }
}
