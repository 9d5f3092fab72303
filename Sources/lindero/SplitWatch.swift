import Logging
import PostgresClient
import ReplicationCore
import Replicator
import Synchronization

/// Looks at what the two sides of a split have in common, beside the worker's directions: the conflicts that wait, and
/// the clocks.
final class SplitWatch: Sendable {
    private static let betweenMilliseconds = 5_000

    private let plan: WorkerPlan
    private let logger: Logger
    private let known = Mutex<(conflicts: [ConflictStatus], clock: ClockStatus?)>(([], nil))

    init(_ plan: WorkerPlan, logger: Logger) {
        self.plan = plan
        self.logger = logger
    }

    /// What the last look showed.
    var conflicts: [ConflictStatus] { known.withLock { $0.conflicts } }
    var clock: ClockStatus? { known.withLock { $0.clock } }

    /// Runs until cancelled. A database that cannot be read is no reason for the worker to stop.
    func run() async {
        guard plan.backend == .split, let loaded = plan.loaded else { return }
        while !Task.isCancelled {
            let conflicts = try? await Self.conflicts(loaded)
            let clock = try? await Self.clock(loaded)
            if Task.isCancelled { return }
            if let conflicts { tell(conflicts) }
            tell(clock ?? nil)
            try? await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
        }
    }

    private func tell(_ found: [ConflictStatus]) {
        let last = known.withLock { known in
            defer { known.conflicts = found }
            return known.conflicts
        }
        for status in found {
            let before = last.first { $0.database == status.database }?.openCount ?? 0
            guard status.openCount > before else { continue }
            logger.warning(
                "conflicts wait for a person",
                metadata: [
                    "database": "\(status.database)", "open": "\(status.openCount)", "next": "lindero conflicts list",
                ])
        }
    }

    private func tell(_ clock: ClockStatus?) {
        let last = known.withLock { known in
            defer { known.clock = clock }
            return known.clock
        }
        guard let clock, clock.isPast != last?.isPast, last != nil || clock.isPast != false else { return }
        logger.log(level: clock.isPast == true ? .warning : .notice, "clocks", metadata: ["offset": "\(clock.words)"])
    }

    /// The clocks of the two sides, the origin's first; `nil` where there are no two.
    static func clock(_ loaded: LoadedConfiguration) async throws -> ClockStatus? {
        let configuration = loaded.configuration
        guard configuration.backend == .split, let other = try loaded.others().first else { return nil }
        let origin = try loaded.origin()
        let offset = try await origin.connected { source in
            try await other.connected { target in try await ClockReader.offset(source: source, target: target) }
        }
        return offset.map {
            ClockStatus(
                source: origin.name, target: other.name, offset: $0,
                limitMilliseconds: configuration.gates.maxClockOffsetMilliseconds)
        }
    }

    /// The queues of the databases that can be reached, in the file's order.
    static func conflicts(_ loaded: LoadedConfiguration) async throws -> [ConflictStatus] {
        var statuses: [ConflictStatus] = []
        for database in try ConflictPlace.databases(loaded) {
            let queue = try? await database.connected { connection -> ConflictQueue? in
                let store = ConflictStore(connection: connection)
                return try await store.exists() ? try await store.queue() : nil
            }
            guard let queue = queue ?? nil else { continue }
            statuses.append(
                ConflictStatus(
                    database: database.name, openCount: queue.openCount, oldestAgeSeconds: queue.oldestAgeSeconds))
        }
        return statuses
    }
}
