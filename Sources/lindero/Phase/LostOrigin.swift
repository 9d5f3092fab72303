import PostgresClient
import ReplicationCore
import Replicator

/// The database that a split came from is lost: what the second one has goes on, and is the origin from then on.
///
/// The record of phases was in the lost one, so there is none to be led by: the file says what holds afterwards.
struct LostOrigin {
    let pair: PhasePair
    let loaded: LoadedConfiguration
    let execute: Bool

    func perform(_ command: some LinderoCommand) async throws {
        let (lost, left) = (pair.origin.name, pair.other.name)
        let settings = try await outgoing()
        let arrived = try await pair.other.connected { try await LostDatabase.arrived(settings, on: $0) }
        guard let arrived else {
            throw CommandFailure(
                "phase", "\(left) is no side of a split with \(lost), or was made ready to go on alone already.", place: pair.other.place,
                nextStep: "Write `origin: \(left)` and `backend: shared` into \(loaded.path), then `lindero run`. A replica has none of the "
                    + "numbers that \(lost)'s sequences gave: set its own ahead first.", exit: .blocked)
        }
        let losses = ["Lost with \(lost):"] + LostRollback.losses(lost, arrived, ["the record of phases; private columns of \(lost)"])
            + ["See that nobody writes to \(lost) any more, wherever it is: nothing carries that."]
        let works = "take down on \(left) what the split needs: slot, publication, origin; its sequences and replica identities as they were"
        let document = JSONValue.object([
            ("left", .text(left)), ("lost", .text(lost)), ("losses", .texts(losses)), ("executed", .bool(execute)),
        ])
        guard execute else {
            return command.answer(document, lines: [works, ""] + losses + ["", "Nothing was changed.", "Next: lindero rollback --lost \(lost) --execute"])
        }
        let kept = try await takeDown(settings)
        command.answer(
            document,
            lines: losses + LostRollback.words(kept, on: left) + [
                "\(left) goes on alone. Both services write there from now on: give them that address, and their roles their privileges there.",
                "Next: write `origin: \(left)` and `backend: shared` into \(loaded.path)\(former), then lindero run",
            ])
    }

    /// What else the file says of the lost one.
    private var former: String {
        let replication = loaded.configuration.replication
        let keys = [replication.slot.map { _ in "slot" }, replication.publication.map { _ in "publication" }, replication.snapshot == .never ? "snapshot" : nil].compactMap { $0 }
        let standbys = loaded.configuration.databases.filter(\.isPhysicalStandby).map(\.name)
        return (keys.isEmpty ? "" : ", take \(keys.joined(separator: ", ")) out of `replication:`")
            + (standbys.isEmpty ? "" : ", and \(standbys.joined(separator: ", ")) out of `databases:`")
    }

    private func takeDown(_ settings: DirectionSettings) async throws -> StayingSequences {
        let tables = try await LostRollback.tables(loaded, on: pair.other)
        let began = Monotonic.milliseconds()
        return try await pair.other.connected { connection in
            try await Migrator(connection: connection).migrate()
            do {
                return try await LostDatabase(outgoing: settings, left: connection, service: pair.other.name, tables: tables).takeDown {
                    max(0, Self.patienceMilliseconds - Int(Monotonic.milliseconds() - began))
                }
            } catch ReplicaEnd.Failure.inUse {
                throw CommandFailure(
                    "in_use", "A worker still streams \(settings.name).", place: pair.other.place,
                    nextStep: "Stop `lindero run`, then the same command again.", exit: .blocked)
            }
        }
    }

    private static let patienceMilliseconds = 60_000

    private func outgoing() async throws -> DirectionSettings {
        var replication = loaded.configuration.replication
        // What the file names was the origin's.
        (replication.slot, replication.publication) = (nil, nil)
        let slot = try await pair.other.connected { try await SlotName.make($0, purpose: pair.origin.name) }
        return DirectionSettings(
            sourceName: pair.other.name, targetName: pair.origin.name, source: pair.other.options, target: pair.origin.options, slot: slot,
            publication: slot, backend: .split, replication: replication, policy: nil)
    }
}
