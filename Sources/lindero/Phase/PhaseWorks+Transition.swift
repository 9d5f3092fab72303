import PostgresClient
import ReplicationCore
import Replicator

/// What lies around the time in which services write on both sides.
extension PhaseWorks {
    /// Both directions, as lindero.yaml declares them.
    private func split() async throws -> SplitSettings {
        guard case .split(let settings)? = try await WorkerPlan.make(loaded.running(.split)).tasks.first else {
            throw CommandFailure(
                "phase", "There are no two directions.", place: loaded.path, nextStep: "Run `lindero check`.", exit: .blocked)
        }
        return settings
    }

    private func transition() async throws -> SplitTransition {
        SplitTransition(settings: try await split(), logger: LineLogHandler.logger())
    }

    func widenIdentity() async throws -> Figures {
        let transition = try await transition()
        return [("tables", .integer(Int64(try await patiently { try await transition.widen() })))]
    }

    /// Once the worker runs what needs less.
    func restoreIdentity() async throws -> Figures {
        let ownership: OwnershipPolicy? =
            loaded.configuration.backend == .split ? try await pair.origin.connected { try await loaded.ownership($0) } : nil
        let sides = [pair.origin, pair.other].map { (name: $0.name, options: $0.options) }
        return [("tables", .integer(Int64(try await SplitTransition.restoreIdentity(on: sides, for: ownership))))]
    }

    /// Until each side shows all that the other had committed when this began, and knows that of the other.
    func drain() async throws -> Figures {
        let began = Monotonic.milliseconds()
        let left = move.isForward ? pair.origin : pair.other
        while let gid = try await preparedTransaction(on: left) {
            try await wait(for: "prepared transaction \(gid) of \(pair.other.name) is still open on \(left.name)")
        }
        for words in await StrayService.visitorWords(loaded) { line.tell(words) }
        let transition = try await transition()
        // One that comes back while the rest is carried begins it anew; one that comes later is refused.
        repeat {
            while let session = try await StrayService.sessions(loaded, on: left, of: pair.other.name).first {
                try await wait(for: "service \(pair.other.name) is on \(left.name) again: \(session)")
            }
            try await refuseMovedService(on: left)
            try await patiently {
                try await transition.drain { bytes in line.show(bytes.both.map(PlainText.bytes).joined(separator: " and ") + " on their way") }
            }
        } while try await !StrayService.sessions(loaded, on: left, of: pair.other.name).isEmpty
        return [("milliseconds", .integer(Monotonic.milliseconds() - began))]
    }

    /// One of the moved service's, which no session holds: committed later, it would be a write of the old side.
    private func preparedTransaction(on database: Database) async throws -> String? {
        let roles = loaded.configuration.database(pair.other.name)?.roles ?? []
        return try await database.connected {
            try await $0.query(
                """
                SELECT gid FROM pg_catalog.pg_prepared_xacts
                WHERE database = pg_catalog.current_database() AND owner = ANY ($1::pg_catalog.text[]) ORDER BY prepared LIMIT 1
                """, [.text(SQLText.arrayLiteral(roles))]
            ).firstValue
        }
    }

    func privateHome() async throws -> Figures {
        let transition = try await transition()
        let count = try await patiently {
            try await transition.bringPrivateColumnsHome { looked, written in
                line.show("\(PlainText.count(looked)) rows looked at, \(PlainText.count(written)) written")
            }
        }
        return [("rows", .integer(Int64(count)))]
    }

    func endSplit() async throws -> Figures {
        // One that prepares it would finish behind our back what is taken down here: a slot nobody knows, a split that has begun.
        while let mode = try await locks.running().first(where: { $0.backend == .split }) {
            try await wait(for: "a worker still runs \(mode.rawValue)")
        }
        let emptied = try await SplitEnd(settings: try await split(), logger: LineLogHandler.logger()).run()
        return emptied.isEmpty ? [] : [("copiedAnew", .texts(emptied.map(\.description)))]
    }

    /// A direction that stands still may get on once a worker runs again; the person is told meanwhile.
    private func patiently<Result>(_ body: () async throws -> Result) async throws -> Result {
        while true {
            do {
                return try await body()
            } catch let error as SplitDrainError {
                guard case .stuck = error else { throw error }
                try await wait(for: "\(error)")
            }
        }
    }
}
