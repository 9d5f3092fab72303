import PostgresClient
import ReplicationCore
import Replicator

/// `rollback --lost`: one database of a split is lost for good, and the other goes on alone, as what both were before.
///
/// Who still answers is not lost: what it has could come home.
struct LostRollback {
    let lost: String
    let moving: PhaseOptions

    static func afterwards(_ configuration: LinderoConfiguration) -> String {
        let service = configuration.others.first.map { "\($0.name)'s service" } ?? "The other service"
        return "\(service) writes to \(configuration.origin) from now on: give it that address, and its roles their privileges there."
    }

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
        if lost == pair.origin.name {
            try await LostCheck(lost: pair.origin, left: pair.other, loaded: loaded).require(listens: true)
            return try await LostOrigin(pair: pair, loaded: loaded, execute: moving.execute).perform(command)
        }
        // What was begun is to end, whoever answers by now.
        let isBegun = loaded.state.move?.givesUp == true && loaded.state.splitToGiveUp == nil
        if !isBegun { try await LostCheck(lost: pair.other, left: pair.origin, loaded: loaded).require(listens: true) }
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

    private static func arrived(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws -> LostDatabase.Arrived? {
        let settings = try await PhaseWorks.replica(pair, loaded)
        return try await pair.origin.connected { try await LostDatabase.arrived(settings, on: $0) }
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
            + ["See that nobody writes to \(other) any more, wherever it is: nothing carries that."]
    }

    static func losses(_ name: String, _ arrived: LostDatabase.Arrived?, _ others: [String?]) -> [String] {
        let writes = arrived.map { arrived in
            "what \(name) committed after \(arrived.lsn?.description ?? "the split began")" + (arrived.time.map { "; its last sign of life that is here is of \($0)" } ?? "")
        }
        return ([writes ?? "nothing that it committed: the split never began"] + others.compactMap { $0 }).map { "  \($0)" }
    }

    /// Those that the split carried: their names alone, so that a file that no longer fits their columns will do.
    static func tables(_ loaded: LoadedConfiguration, on left: Database) async throws -> [QualifiedName] {
        OwnershipPolicy.selectedNames(loaded.configuration, among: try await left.connected { try await CatalogReader.names($0) })
    }

    /// What a person has to know of sequences that stay as they are.
    static func words(_ staying: StayingSequences, on name: String) -> [String] {
        staying.halves.map { sequence in
            "sequence \(sequence) goes on with its half of the numbers, since its column holds no plain ones that could be read: once you know the last, "
                + "ALTER SEQUENCE \(sequence.sql) on \(name), and DELETE FROM lindero.sequence_split there"
        } + staying.behind.map { "sequence \($0) of \(name) stays where it is: there is no number ahead of what its column holds" }
    }

    /// For who is told that there is no way back while the second database can't be asked.
    static func advice(_ pair: PhasePair) async -> String {
        var options = pair.other.options
        // Who asks for the status of what is dead has waited for it already.
        options.connectTimeoutSeconds = min(options.connectTimeoutSeconds, 3)
        do {
            try await PostgresConnection.with(options) { _ in }
            return ""
        } catch {
            return LostDatabase.isLost(error) ? "; if \(pair.other.name) is lost for good: lindero rollback --lost \(pair.other.name)" : ""
        }
    }
}
