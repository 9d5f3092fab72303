import PostgresClient
import ReplicationCore
import Replicator

/// `rollback --lost`: one database of a split is lost for good, and the other goes on alone, as what both were before.
///
/// Who still answers is not lost: what it has could come home.
struct LostRollback {
    let lost: String
    let moving: PhaseOptions

    static let afterwards = "Its service writes to the origin from now on: give it that address, and its roles their privileges there."

    func perform(_ command: some LinderoCommand) async throws {
        let loaded = try await LoadedConfiguration.current(command.global)
        let pair = try PhasePair(loaded)
        guard [pair.origin.name, pair.other.name].contains(lost) else {
            // Says which there are.
            _ = try loaded.database(lost)
            throw CommandFailure(
                "configuration", "\(lost) is a physical standby, and no side of a split.", place: loaded.path,
                nextStep: "Choose one of: \(pair.origin.name), \(pair.other.name).", exit: .blocked)
        }
        try await requireLost(lost == pair.other.name ? pair.other : pair.origin)
        if lost == pair.origin.name { return try await LostOrigin(pair: pair, loaded: loaded, execute: moving.execute).perform(command) }
        let hasSplit = try await Self.arrived(pair, loaded) != nil
        let isThere = loaded.state.phase == .shared && loaded.state.move == nil
        if loaded.phaseProblem == nil, !isThere, loaded.state.giveUp(hasSplit: hasSplit) == nil {
            throw CommandFailure(
                "phase", "\(lost) is no side of a split: the phase is \(loaded.state.words), and \(pair.origin.name) has all that the services wrote.",
                place: pair.origin.place,
                nextStep: "Run `lindero rollback --to shared --execute`: it needs no replica to leave one.", exit: .blocked)
        }
        try await moving.perform("rollback --lost \(lost)", command) { $0.giveUp(hasSplit: hasSplit) }
    }

    private func requireLost(_ database: Database) async throws {
        let reason: String
        do {
            try await PostgresConnection.with(database.options) { _ in }
            reason = "it answers"
        } catch {
            if LostDatabase.isLost(error) { return }
            reason = CommandFailure(error).message
        }
        throw CommandFailure(
            "not_lost", "\(lost) is not lost: \(reason). Nothing was changed.", place: database.place,
            nextStep: "Run `lindero rollback`: what it has comes home first. Should it be the wrong address, mend that.", exit: .blocked)
    }

    private static func arrived(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws -> LostDatabase.Arrived? {
        let settings = try await PhaseWorks.replica(pair, loaded)
        return try await pair.origin.connected { try await LostDatabase(outgoing: settings, left: $0, service: pair.other.name).arrived() }
    }

    /// What nobody has any more once the second database is given up.
    static func losses(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws -> [String] {
        let other = pair.other.name
        let staying: String?
        do {
            let columns = try await pair.origin.connected { try await loaded.ownership($0) }.stayingColumns(of: other)
            let names = columns.sorted { $0.key < $1.key }.flatMap { table, columns in columns.sorted().map { "\(table).\($0)" } }
            staying = names.isEmpty ? nil : "its private columns \(names.joined(separator: ", "))"
        } catch {
            staying = "private columns, which \(loaded.path) does not tell (\(CommandFailure(error).message))"
        }
        return ["Lost with \(other):"] + losses(other, try await arrived(pair, loaded), [staying])
    }

    static func losses(_ name: String, _ arrived: LostDatabase.Arrived?, _ others: [String?]) -> [String] {
        let writes = arrived.map { arrived in
            "what \(name) committed after \(arrived.lsn?.description ?? "the split began")" + (arrived.time.map { "; its last sign of life that is here is of \($0)" } ?? "")
        }
        return ([writes ?? "nothing that it committed: the split never began"] + others.compactMap { $0 }).map { "  \($0)" }
    }

    /// For who is told that there is no way back while the second database can't be asked.
    static func advice(_ pair: PhasePair) async -> String {
        do {
            try await PostgresConnection.with(pair.other.options) { _ in }
            return ""
        } catch {
            return LostDatabase.isLost(error) ? "; if \(pair.other.name) is lost for good: lindero rollback --lost \(pair.other.name)" : ""
        }
    }
}

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
        let arrived = try await pair.other.connected { try await LostDatabase(outgoing: settings, left: $0, service: left).arrived() }
        guard let arrived else {
            throw CommandFailure(
                "phase", "\(left) is no side of a split with \(lost), or was made ready to go on alone already.", place: pair.other.place,
                nextStep: "Write `origin: \(left)` and `backend: shared` into \(loaded.path), then `lindero run`. A replica has none of the "
                    + "numbers that \(lost)'s sequences gave: set its own ahead first.", exit: .blocked)
        }
        let losses = ["Lost with \(lost):"] + LostRollback.losses(lost, arrived, ["the record of phases; private columns of \(lost)"])
        let works = "take down on \(left) what the split needs: slot, publication, origin; its sequences and replica identities as they were"
        let document = JSONValue.object([
            ("left", .text(left)), ("lost", .text(lost)), ("losses", .texts(losses)), ("executed", .bool(execute)),
        ])
        guard execute else {
            return command.answer(document, lines: [works, ""] + losses + ["", "Nothing was changed.", "Next: lindero rollback --lost \(lost) --execute"])
        }
        try await takeDown(settings)
        command.answer(
            document,
            lines: losses + [
                "\(left) goes on alone. Both services write there from now on.",
                "Next: write `origin: \(left)` and `backend: shared` into \(loaded.path), then lindero run",
            ])
    }

    private func takeDown(_ settings: DirectionSettings) async throws {
        let began = Monotonic.milliseconds()
        try await pair.other.connected { connection in
            try await Migrator(connection: connection).migrate()
            do {
                try await LostDatabase(outgoing: settings, left: connection, service: pair.other.name).takeDown {
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
