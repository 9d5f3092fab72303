import PostgresClient
import ReplicationCore
import Replicator

/// Whether a database of a split is lost, as far as can be seen from here: nobody answers there, and nobody hears from it.
///
/// What is wrong here alone (an address, a password, the way there) loses nothing: so a worker somewhere else is listened to as well.
struct LostCheck {
    private static let leastListeningMilliseconds: Int64 = 3_000
    /// What a sign of life may be late.
    private static let lateMilliseconds: Int64 = 5_000
    private static let betweenMilliseconds = 200

    let lost: Database
    let left: Database
    let loaded: LoadedConfiguration

    /// - Parameters:
    ///   - listens: whether a worker may still run the split.
    ///   - way: what to do with a database that is there, in words.
    /// - Throws: `CommandFailure` (`not_lost`).
    func require(listens: Bool, of way: String = "Run `lindero rollback`: what it has comes home first") async throws {
        let arrived = try await arrived()
        try await probe(arrived, way)
        for standby in lost.name == loaded.configuration.origin ? try loaded.databases().filter(\.isPhysicalStandby) : [] {
            var options = standby.options
            options.acceptsAnyServer = true
            do {
                try await PostgresConnection.with(options) { _ in }
            } catch {
                if LostDatabase.isLost(error) { continue }
            }
            throw failure("its standby \(standby.name) is there, and may have what it had", "Promote that, and give \(lost.name) its address; without its slot nothing comes home from there by itself, so keep what you need of it. Or take it out of \(loaded.path)")
        }
        guard listens, let arrived else { return }
        let heartbeat = Int64(loaded.configuration.replication.heartbeatMilliseconds)
        let end = Monotonic.milliseconds() + max(Self.leastListeningMilliseconds, min(3 * heartbeat, heartbeat + Self.lateMilliseconds))
        StandardError.write("listening whether anybody hears from \(lost.name)\n")
        while Monotonic.milliseconds() < end {
            try await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
            if try await self.arrived()?.sign != arrived.sign {
                throw failure("a worker hears from it, whoever can't be reached from here", "Mend the way there from here, or its address in \(loaded.path)")
            }
        }
        try await probe(arrived, way)
    }

    private var outgoing: DirectionSettings {
        DirectionSettings(
            sourceName: left.name, targetName: lost.name, source: left.options, target: lost.options, slot: "", publication: "", backend: .split,
            replication: loaded.configuration.replication, policy: nil)
    }

    private func arrived() async throws -> LostDatabase.Arrived? {
        try await left.connected { try await LostDatabase.arrived(outgoing, on: $0) }
    }

    private func probe(_ arrived: LostDatabase.Arrived?, _ way: String) async throws {
        let isSplit = arrived != nil
        var options = lost.options
        // A standby of it that answers is not lost either.
        options.acceptsAnyServer = true
        var way = way
        let reason: String
        do {
            let answering = try await PostgresConnection.with(options) { found in
                try await left.connected { left in
                    try await LostDatabase.answering(found, for: outgoing, left: left, arrived: arrived) {
                        OwnershipPolicy.selectedNames(loaded.configuration, among: $0)
                    }
                }
            }
            switch answering {
            case .empty where isSplit: return
            case .another where isSplit: reason = "another database answers under its address"
            // A move that makes or drops the slot may have been cut off there: whoever goes on with it needs no other advice.
            case .copy where loaded.state.move == nil:
                reason = "it answers, but its replication slot is no more, as after a restore from a backup"
                way =
                    "`lindero slot renew \(lost.name)` says whether the split can go on without what the slot lost. If not, nothing that it has comes "
                    + "home by itself: keep what you need of it, stop it or give it another address, and the same command again"
            case .side, .copy, .empty, .another: reason = "it answers"
            }
        } catch {
            if LostDatabase.isLost(error) { return }
            reason = CommandFailure(error).message
        }
        throw failure(reason, way)
    }

    private func failure(_ reason: String, _ nextStep: String) -> CommandFailure {
        CommandFailure("not_lost", "\(lost.name) is not lost: \(reason). Nothing was taken down.", place: lost.place, nextStep: "\(nextStep).", exit: .blocked)
    }
}
