import Logging
import PostgresClient
import Synchronization

/// The target's second session, from when a backlog first makes use of it.
///
/// It commits under an origin of its own, since a server lets one session have an origin at a time. Where it cannot be had, one
/// session applies alone, as it would without.
final class SecondSession: Sendable {
    private enum State {
        case unused
        case open(PostgresConnection)
        case refused(atMilliseconds: Int64)
    }

    /// What passes by itself is asked for again.
    private static let retryMilliseconds: Int64 = 60_000
    /// The group at work waits no longer than this for what may only be of use.
    private static let connectMilliseconds = 5_000

    private let settings: DirectionSettings
    private let logger: Logger
    private let state = Mutex(State.unused)

    init(settings: DirectionSettings, logger: Logger) {
        self.settings = settings
        self.logger = logger
    }

    /// Connects, the first time and when it has been lost; `nil` where that is refused. Asked by one at a time.
    ///
    /// - Parameter home: the session that has the direction's origin.
    func open(beside home: PostgresConnection) async -> PostgresConnection? {
        switch state.withLock({ $0 }) {
        case .open(let connection):
            if await connection.isAlive { return connection }
            await connection.close()
        case .refused(let then) where Monotonic.milliseconds() - then < Self.retryMilliseconds: return nil
        case .refused, .unused: break
        }
        var made: PostgresConnection?
        do {
            let connection = try await connect()
            made = connection
            try await ProgressOrigin(connection: connection, direction: settings.name).takeSecond(beside: home)
            state.withLock { $0 = .open(connection) }
            return connection
        } catch {
            await made?.close()
            state.withLock { $0 = .refused(atMilliseconds: Monotonic.milliseconds()) }
            if !Task.isCancelled {
                logger.info("one session applies alone", metadata: ["direction": "\(settings.name)", "reason": "\(error)"])
            }
            return nil
        }
    }

    private func connect() async throws -> PostgresConnection {
        try await withThrowingTaskGroup(of: PostgresConnection.self) { group in
            group.addTask {
                let connection = try await PostgresConnection.connect(self.settings.applyOptions)
                do {
                    try await self.requirePatience(connection)
                    try await DirectionRun.commitAsynchronously(connection)
                } catch {
                    await connection.close()
                    throw error
                }
                return connection
            }
            group.addTask {
                try await Task.sleep(for: .milliseconds(Self.connectMilliseconds))
                throw PostgresError.timeout(milliseconds: Self.connectMilliseconds)
            }
            defer { group.cancelAll() }
            guard let first = try await group.next() else { throw CancellationError() }
            return first
        }
    }

    /// Two groups that wait for each other are to part by the limit of the one that may be done again: the server, were it
    /// earlier, might end the other.
    private func requirePatience(_ connection: PostgresConnection) async throws {
        let setting = try await connection.query("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'").firstValue
        guard let milliseconds = setting.flatMap({ Int($0) }), milliseconds >= 2 * GroupOverlap.lockMilliseconds else {
            throw PostgresError.closed("deadlock_timeout is below \(2 * GroupOverlap.lockMilliseconds) ms")
        }
    }

    func close() async {
        guard case .open(let connection) = state.withLock({ $0 }) else { return }
        await connection.close()
    }
}
