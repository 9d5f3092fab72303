import PostgresClient
import ReplicationCore
import Replicator

/// Moving services, and making both databases hold the same on the way.
extension PhaseWorks {
    /// How long a person may take where no `--timeout` says it: a week.
    private static let handMilliseconds = 7 * 86_400_000

    /// Moves the service that the other database belongs to: there, or home to the origin.
    func moveServices() async throws -> Figures {
        let (from, to) = move.isForward ? (pair.origin, pair.other) : (pair.other, pair.origin)
        let service = pair.other.name
        let tables = try await pair.origin.connected { try await loaded.policy($0).tables.keys.sorted() }
        let line = line
        // Writers wait while the new side gets the rest, and not for connections.
        return try await from.connected { source in
            try await to.connected { target in
                var move = ServiceMove(
                    service: service, from: .init(name: from.name, options: from.options), to: .init(name: to.name, options: to.options),
                    tables: tables, configuration: loaded.configuration, console: try loaded.bouncerConsole(),
                    logger: LineLogHandler.logger()
                ) { side in
                    try await side == from.name ? drain(from, source, to, target) : drain(to, target, from, source)
                }
                // A person takes the time that a person takes.
                if move.bouncer == nil, move.command.isEmpty, move.fence == .none {
                    let left = deadlineMilliseconds.map { max(0, Int($0 - Monotonic.milliseconds())) }
                    move.deadlineMilliseconds = max(move.deadlineMilliseconds, left ?? Self.handMilliseconds)
                }
                return try await figures(of: move) { event in event.words.map { line.tell("\(service): \($0)") } }
            }
        }
    }

    private func figures(of move: ServiceMove, report: @escaping @Sendable (ServiceMoveEvent) -> Void) async throws -> Figures {
        do {
            let figures = try await move.run(report: report)
            return [
                ("service", .text(move.service)), ("from", .text(move.from.name)), ("to", .text(move.to.name)),
                ("longestPauseMilliseconds", .integer(Int64(figures.longestPauseMilliseconds))),
                ("longestFenceMilliseconds", .integer(Int64(figures.longestFenceMilliseconds))),
                ("sessionsMoved", .integer(Int64(figures.sessionsMoved))),
                ("sessionsEnded", .integer(Int64(figures.sessionsEnded))),
                ("totalMilliseconds", .integer(Int64(figures.totalMilliseconds))),
            ]
        } catch {
            throw CommandFailure(
                "service_move", "\(error)", place: move.service,
                nextStep: "As it says; then `lindero \(command)` goes on, and `lindero rollback --execute` goes back.")
        }
    }

    private var movedService: MovedService {
        get async throws {
            let tables = try await pair.origin.connected { try await loaded.policy($0).tables.keys.sorted() }
            return MovedService(name: pair.other.name, roles: loaded.configuration.database(pair.other.name)?.roles ?? [], tables: tables)
        }
    }

    var leftMilliseconds: Int { deadlineMilliseconds.map { max(0, Int($0 - Monotonic.milliseconds())) } ?? Self.handMilliseconds }

    /// From here on a write of the moved service on the side that it has left fails, where it would stay alone.
    func refuseMovedService(on left: Database) async throws {
        let service = try await movedService
        let isRefused = try await left.connected { try await service.refuse(on: $0) { leftMilliseconds } }
        if !isRefused {
            line.tell("\(left.name) can't be made to refuse \(pair.other.name)'s writes: this role does not own the tables; see that none come")
        }
    }

    /// The side that it moves to takes its writes again.
    func allowMovedService(on side: Database) async throws {
        let service = try await movedService
        try await side.connected { try await service.allow(on: $0) { leftMilliseconds } }
    }

    /// Until one side shows what the other had committed when this began.
    private func drain(
        _ source: Database, _ from: PostgresConnection, _ target: Database, _ to: PostgresConnection
    ) async throws {
        let lsn = try await Marker.position(on: from)
        let place = LSNWait(place: .direction("\(source.name)->\(target.name)"), target: to)
        // What came after the last commit is only told with the next; somebody waits, so there is one at once.
        try await Marker.write(on: from)
        while true {
            let outcome = try await place.wait(for: lsn ?? .zero, timeoutMilliseconds: 1_000) { try await Marker.write(on: from) }
            if case .shown = outcome { return }
            try await wait(for: "\(target.name) does not show \(lsn ?? .zero) yet")
        }
    }
}

extension ServiceMoveEvent {
    /// What a person is told; `nil` for what would repeat itself.
    var words: String? {
        switch self {
        case .found(let sessions): "\(sessions.count) sessions to move"
        case .writers(let roles):
            "could write there: " + roles.map { "\($0.name)\($0.isSuperuser ? " (superuser)" : ""), \($0.sessions) sessions" }.joined(separator: "; ")
        case .begun: nil
        case .released(let milliseconds): "writers could not be stopped within \(milliseconds) ms and go on; trying again"
        case .probed(let roles, let untried):
            "the fence holds against \(roles.joined(separator: ", "))" + (untried.isEmpty ? "" : "; not tried: \(untried.joined(separator: ", "))")
        case .paused(let milliseconds): "clients waited \(milliseconds) ms in pgbouncer"
        case .fenced(let milliseconds): "writers waited \(milliseconds) ms at the fence"
        case .ended(let count): "\(count) sessions ended"
        case .waiting(let sessions): "still there: \(sessions.prefix(5).map(\.description).joined(separator: "; "))"
        case .undoing: "putting it back"
        case .done: nil
        }
    }
}
