import Observability
import PostgresClient
import ReplicationCore
import Replicator
import Synchronization

/// Answers `/await` in a worker: of a replica it knows the position without asking, else one question at a time answers all
/// who wait.
final class WorkerAwait: Sendable {
    /// Who comes when so many wait is turned away: the page has places for others then (`RequestExchange.Limits.connections`).
    static let mostWaiters = 192

    /// A database that follows the origin.
    private struct Follower: Sendable {
        var name: String
        var position: @Sendable () async throws -> LSN?
        /// Brings the position past the last commit; `nil` where that moves by itself.
        var marker: SourceMarker?
    }

    private let followers: [Follower]
    private let waiters = Mutex(0)

    private init(_ followers: [Follower]) { self.followers = followers }

    /// `nil` when nothing follows.
    static func make(_ plan: WorkerPlan, _ members: [Worker.Member]) -> (@Sendable (AwaitRequest) async -> AwaitAnswer)? {
        var followers: [Follower] = []
        for member in members {
            let settings = member.settings
            let position: @Sendable () async throws -> LSN?
            switch settings.backend {
            case .shared: continue
            case .replica:
                let state = member.state
                position = { state.appliedLSN }
            case .split:
                let reader = PositionReader(.direction(settings.name), settings.target)
                position = { try await reader.read() }
            }
            followers.append(
                Follower(name: settings.targetName, position: position, marker: SourceMarker(settings.source)))
        }
        for direction in plan.standbys {
            guard case .standby(let standby) = direction.kind else { continue }
            let position = PositionReader(.standby, standby.options)
            followers.append(Follower(name: standby.name, position: { try await position.read() }))
        }
        guard !followers.isEmpty else { return nil }
        let place = WorkerAwait(followers)
        return { await place.answer($0) }
    }

    private func answer(_ request: AwaitRequest) async -> AwaitAnswer {
        let found = followers.filter { $0.name == request.database || request.database == nil }
        guard let follower = found.first, found.count == 1 else { return .choose(followers.map(\.name)) }
        let isWelcome = waiters.withLock { count in
            if count >= Self.mostWaiters { return false }
            count += 1
            return true
        }
        guard isWelcome else { return .unavailable("\(Self.mostWaiters) wait already.") }
        defer { waiters.withLock { $0 -= 1 } }
        return await wait(request, for: follower)
    }

    private func wait(_ request: AwaitRequest, for follower: Follower) async -> AwaitAnswer {
        let start = Monotonic.milliseconds()
        var schedule = WaitSchedule()
        var nudgeAt = LSNWait.nudgeMilliseconds
        while true {
            let shown: LSN?
            do {
                shown = try await follower.position()
            } catch {
                return .unavailable("\(follower.name) cannot be asked: \(error)")
            }
            let waited = Monotonic.milliseconds() - start
            if let shown, shown >= request.lsn { return .shown(shown, waitedMilliseconds: waited) }
            guard waited < request.timeoutMilliseconds, !Task.isCancelled else {
                return .timedOut(shown, waitedMilliseconds: waited)
            }
            if waited >= nudgeAt {
                nudgeAt = waited + SourceMarker.againMilliseconds
                // Without it the next heartbeat does the same, a little later.
                try? await follower.marker?.write(after: request.lsn)
            }
            let pause = min(Int64(schedule.nextMilliseconds()), Int64(request.timeoutMilliseconds) - waited)
            try? await Task.sleep(for: .milliseconds(pause))
        }
    }
}

/// A connection that is opened when it is first needed, and again after it broke.
private actor LazyConnection {
    private let options: ConnectionOptions
    private var connection: PostgresConnection?

    init(_ options: ConnectionOptions) { self.options = options }

    func open() async throws -> PostgresConnection {
        if let connection, await connection.isAlive { return connection }
        let new = try await PostgresConnection.connect(options)
        connection = new
        return new
    }
}

/// Writes signs of life into the source's log, one for all who wait for a position before it.
private actor SourceMarker {
    /// Whoever still waits asks for another.
    static let againMilliseconds: Int64 = 100
    /// However many ask, no more often than this.
    private static let betweenMilliseconds: Int64 = 10

    private let connection: LazyConnection
    private var last: (lsn: LSN, atMilliseconds: Int64) = (.zero, -betweenMilliseconds)

    init(_ options: ConnectionOptions) { connection = LazyConnection(options) }

    func write(after lsn: LSN) async throws {
        let now = Monotonic.milliseconds()
        guard last.lsn < lsn, now - last.atMilliseconds >= Self.betweenMilliseconds else { return }
        last.atMilliseconds = now
        let source = try await connection.open()
        // What the source has not reached itself no sign of life can show.
        guard let position = try await Marker.position(on: source), position >= lsn else { return }
        try await Marker.write(on: source)
        last.lsn = max(last.lsn, position)
    }
}

/// How far a database is, asked at most once in a few milliseconds.
private actor PositionReader {
    private static let freshMilliseconds: Int64 = 3

    private let place: LSNWait.Place
    private let connection: LazyConnection
    private var reading: Task<LSN?, any Error>?
    private var last: (lsn: LSN?, atMilliseconds: Int64)?

    init(_ place: LSNWait.Place, _ options: ConnectionOptions) {
        self.place = place
        connection = LazyConnection(options)
    }

    func read() async throws -> LSN? {
        if let last, Monotonic.milliseconds() - last.atMilliseconds < Self.freshMilliseconds { return last.lsn }
        if let reading { return try await reading.value }
        let task = Task { [connection, place] in
            try await LSNWait(place: place, target: try await connection.open()).position()
        }
        reading = task
        defer { reading = nil }
        let lsn = try await task.value
        last = (lsn, Monotonic.milliseconds())
        return lsn
    }
}
