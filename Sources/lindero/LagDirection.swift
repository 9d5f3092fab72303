import PostgresClient
import ReplicationCore
import Replicator

/// A direction whose lag can be read from the databases, without its worker.
struct LagDirection: Sendable {
    enum Kind: Sendable {
        /// Shared mode's feed: the slot alone tells.
        case feed
        case replica(target: Database)
        /// A standby that PostgreSQL itself keeps.
        case standby(Database)
    }

    var kind: Kind
    var source: Database
    /// `nil` for a standby, whose own settings name it.
    var slot: String?
    var gates: Gates
    /// Heartbeat interval of the worker; 0 when it writes none.
    var heartbeatMilliseconds: Int
    var copiesFirst: Bool
    /// Whether its slot is made after it has been registered: until it is prepared a slot that is not there is none that was lost.
    var registersFirst = false

    var isStandby: Bool {
        if case .standby = kind { true } else { false }
    }

    var name: String {
        switch kind {
        case .feed: "\(source.name)->feed"
        case .replica(let target): "\(source.name)->\(target.name)"
        case .standby(let standby): "\(source.name)->\(standby.name)"
        }
    }

    /// The directions of a configuration.
    static func all(_ loaded: LoadedConfiguration) async throws -> [LagDirection] {
        let forward = try await forward(loaded)
        guard let backward = try await backward(loaded) else { return forward }
        return forward.prefix(1) + [backward] + forward.dropFirst()
    }

    /// How long what is on its way may take to be no backlog: an idle direction of a split gets on with the next heartbeat.
    static let settleMilliseconds: Int64 = 1_500

    /// What is known of each direction, for gates. In a split one side may be down, which is no reason to hide the other: that
    /// stands as the problem of the directions that can't be read.
    ///
    /// A backlog is what had been written at the first look and is not there a moment later: whatever any database of a server
    /// writes is on its way for some milliseconds, and from a megabyte a second on that alone would be past a small limit.
    static func reports(_ loaded: LoadedConfiguration, standbys: Bool = true) async throws -> [LagReport] {
        let first = try await look(loaded, standbys: standbys)
        var reports = first
        let limitBytes = UInt64(loaded.configuration.gates.maxLagBytes)
        let end = Monotonic.milliseconds() + settleMilliseconds
        while reports.contains(where: { $0.state == .catchingUp && ($0.lagBytes ?? 0) > limitBytes }), Monotonic.milliseconds() < end {
            try await Task.sleep(for: .milliseconds(50))
            reports = try await look(loaded, standbys: standbys).map { report in
                var report = report
                let before = first.first { $0.name == report.name }
                report.sourceLSN = [report.sourceLSN, before?.sourceLSN].compactMap { $0 }.min()
                if report.state == .catchingUp, let bytes = report.lagBytes, bytes <= limitBytes { report.state = .streaming }
                return report
            }
        }
        return reports
    }

    /// As `reports`, at this moment.
    static func look(_ loaded: LoadedConfiguration, standbys: Bool = true) async throws -> [LagReport] {
        guard loaded.configuration.backend == .split, let other = try loaded.others().first else {
            return try await LagCommand.read(try await all(loaded).filter { standbys || !$0.isStandby })
        }
        let origin = loaded.configuration.origin
        let there = await known("\(origin)->\(other.name)") {
            try await LagCommand.read(try await forward(loaded).filter { standbys || !$0.isStandby })
        }
        let back = await known("\(other.name)->\(origin)") {
            try await LagCommand.read([try await backward(loaded)].compactMap { $0 })
        }
        return there.prefix(1) + back + there.dropFirst()
    }

    private static func known(_ name: String, _ read: () async throws -> [LagReport]) async -> [LagReport] {
        do {
            return try await read()
        } catch {
            let failure = CommandFailure(error)
            var report = LagReport(name: name)
            report.state = .notRunning
            report.problem = failure.message + (failure.place.map { " (\($0))" } ?? "")
            return [report]
        }
    }

    private static func forward(_ loaded: LoadedConfiguration) async throws -> [LagDirection] {
        let configuration = loaded.configuration
        let origin = try loaded.origin()
        let others = try loaded.databases().filter { $0.name != origin.name }
        let copies = configuration.backend == .shared ? [] : others.filter { !$0.isPhysicalStandby }
        let kinds = copies.isEmpty ? [Kind.feed] : copies.map { Kind.replica(target: $0) }
        return try await origin.connected { connection in
            var directions: [LagDirection] = []
            for kind in kinds + others.filter(\.isPhysicalStandby).map({ Kind.standby($0) }) {
                directions.append(
                    LagDirection(
                        kind: kind, source: origin, slot: try await slot(kind, loaded, connection),
                        gates: configuration.gates,
                        heartbeatMilliseconds: configuration.replication.heartbeatMilliseconds,
                        copiesFirst: configuration.replication.snapshot == .initial))
            }
            return directions
        }
    }

    /// `nil` outside of a split.
    private static func backward(_ loaded: LoadedConfiguration) async throws -> LagDirection? {
        let configuration = loaded.configuration
        guard configuration.backend == .split, let other = try loaded.others().first else { return nil }
        let origin = try loaded.origin()
        return LagDirection(
            kind: .replica(target: origin), source: other,
            slot: try await other.connected { try await SlotName.make($0, purpose: origin.name) }, gates: configuration.gates,
            heartbeatMilliseconds: configuration.replication.heartbeatMilliseconds, copiesFirst: false, registersFirst: true)
    }

    static func adopted(_ direction: (source: Database, target: Database, slot: String)) -> LagDirection {
        LagDirection(
            kind: .replica(target: direction.target), source: direction.source, slot: direction.slot, gates: Gates(),
            heartbeatMilliseconds: ReplicationSettings().heartbeatMilliseconds, copiesFirst: false)
    }

    private static func slot(
        _ kind: Kind, _ loaded: LoadedConfiguration, _ connection: PostgresConnection
    ) async throws -> String? {
        switch kind {
        case .standby: return nil
        case .feed: return try await SlotName.make(connection, purpose: "feed")
        case .replica(let target):
            if let adopted = loaded.configuration.replication.slot { return adopted }
            return try await SlotName.make(connection, purpose: target.name)
        }
    }
}
