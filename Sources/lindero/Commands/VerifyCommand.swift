import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct VerifyCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Compare both databases while they are in use; only columns that travel.",
        discussion: """
            Both servers hash their own rows, stretch by stretch; what differs is narrowed down to rows, and a row counts as \
            different only when it still is after the target has everything that the source had. Exits with 3 when rows \
            differ. Of a row that differs its key is shown, its values only with --show-values. An interrupted comparison is taken \
            up where it was. verify.rate_limit and verify.jobs in lindero.yaml bound the load.

            With --repair it says how rows would be mended, with --execute it mends them, while both sides are written: those of a \
            replica by the source's values; in a split each column by its owner's value, or by its policy where that tells. \
            What no rule decides is left as it is, unless --take names the side whose values shall stand. In a split what was \
            written over is kept: lindero conflicts list --all.

            Examples:
              lindero verify
              lindero verify Reservas --show-values
              lindero verify --repair --execute
              lindero verify Reservas --repair --take sync --execute
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Tables, as in lindero.yaml, or patterns; default: every table that is replicated.")
    var tables: [String] = []

    @Flag(help: "Say how differing rows would be mended.")
    var repair = false

    @Flag(help: "With --repair: mend them.")
    var execute = false

    @Option(help: ArgumentHelp("With --repair, in a split: whose values stand where no rule says which.", valueName: "side"))
    var take: String?

    @Flag(help: "Print the values that differ, too.")
    var showValues = false

    @Flag(help: "Begin anew, even where an interrupted comparison could be taken up.")
    var restart = false

    @Option(help: "Differences to print for each table; all are counted.")
    var limit = 100

    func validate() throws {
        if execute, !repair { throw ValidationError("--execute goes with --repair.") }
        if take != nil, !repair { throw ValidationError("--take goes with --repair.") }
        if !(0...VerifyStore.listedDifferences).contains(limit) {
            throw ValidationError("--limit takes a number from 0 to \(VerifyStore.listedDifferences).")
        }
    }

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        if let take { _ = try loaded.database(take) }
        if execute, loaded.isInTransition {
            throw CommandFailure(
                "verify", "While services move between the databases nothing is mended: who owns a row is on its way, too.",
                place: loaded.path,
                nextStep: "Let the move end, or roll it back (`lindero status` says how far it is); then run the same command again.",
                exit: .blocked)
        }
        let settings = try await VerifyPlan.make(loaded)
        let names = try await loaded.origin().connected { try await TableArgument.names(tables, on: $0) }
        var results: [VerifyResults] = []
        await tellWhatStands(loaded)
        for direction in settings {
            do {
                results.append(try await verify(direction, names, loaded))
            } catch {
                throw CommandFailure(error, place: "\(direction.name) (\(direction.source) to \(direction.target))")
            }
        }
        answer(results.json, lines: results.lines + ["Next: \(results.next(asked, isRepair: repair))"])
        if let exit = results.exit { throw ExitCode(exit.rawValue) }
    }

    /// Rows that differ are looked at again once the other side has what was written before: nobody carries that here.
    private func tellWhatStands(_ loaded: LoadedConfiguration) async {
        for direction in (try? await LagDirection.all(loaded)) ?? [] where !direction.isStandby {
            guard let report = try? await LagReader(direction: direction).read(),
                [.stopped, .paused, .notRunning].contains(report.state)
            else { continue }
            StandardError.write(
                "note: \(direction.name) is \(report.state.rawValue): what it has not carried yet is waited for before rows that differ are "
                    + "looked at again. `lindero status` says why it stands.\n")
        }
    }

    /// The command again.
    private var asked: String {
        let names = tables.map { $0.contains { !($0.isLetter || $0.isNumber || "_.".contains($0)) } ? "'\($0)'" : $0 }
        return (["lindero verify"] + names + (repair ? ["--repair"] : []) + (take.map { ["--take \($0)"] } ?? []))
            .joined(separator: " ")
    }

    private func verify(
        _ settings: DirectionSettings, _ names: [QualifiedName], _ loaded: LoadedConfiguration
    ) async throws -> VerifyResults {
        if take != nil, settings.backend != .split {
            throw CommandFailure(
                "verify", "--take is for a split; a replica's rows are mended by the source's values.", place: settings.name,
                nextStep: "Leave it off.", exit: .blocked)
        }
        let verification = Verification(
            settings: settings, verify: loaded.configuration.verify, longestSeconds: loaded.configuration.gates.verifyAgeSeconds)
        let line = VerifyLine(name: settings.name)
        let report = try await verification.run(names, restart: restart) { line.show($0) }
        StatusLine.clear()
        let direction = verification.direction
        var results = VerifyResults(report: report, direction: direction, limit: limit, isRepair: repair)
        if settings.backend == .split {
            results.rules = settings.policy?.tables.mapValues { RepairRules($0, direction, taking: take) } ?? [:]
        }
        if showValues {
            results.values = try await RowValues.with(settings) { reader in
                var values: [VerifyResults.Place: [RowValues.Value]] = [:]
                for (table, difference) in results.listed {
                    guard let scope = report.compared[table] else { continue }
                    values[.init(table: table, key: difference.key)] = try await reader.read(difference, of: scope)
                }
                return values
            }
        }
        if execute, report.differenceCount > 0 { results.outcomes = try await mend(report, settings, line) }
        return results
    }

    /// Rows that the target has in excess first: one of them may hold a value that another row needs alone.
    private func mend(
        _ report: VerifyReport, _ settings: DirectionSettings, _ line: VerifyLine
    ) async throws -> [VerifyResults.Place: RowRepair.Outcome] {
        let order: [RowDifference.Kind] = [.extra, .changed, .missing]
        return try await RowRepair.with(settings, taking: take) { repair in
            var outcomes: [VerifyResults.Place: RowRepair.Outcome] = [:]
            for kind in order {
                for table in report.tables {
                    guard let scope = report.compared[table.table] else { continue }
                    for difference in table.differences where difference.kind == kind {
                        outcomes[.init(table: table.table, key: difference.key)] =
                            try await repair.mend(difference.key, of: scope)
                        line.show(mended: outcomes.count, of: report.differenceCount)
                    }
                }
            }
            StatusLine.clear()
            return outcomes
        }
    }
}

/// The directions whose databases can be compared.
enum VerifyPlan {
    static func make(_ loaded: LoadedConfiguration) async throws -> [DirectionSettings] {
        let configuration = loaded.configuration
        let origin = try loaded.origin()
        let others = try loaded.others()
        guard configuration.backend != .shared, !others.isEmpty else {
            throw CommandFailure(
                "verify", "There is one database alone, and nothing to compare it with.", place: loaded.path,
                nextStep: "Set `backend: replica` and name a second database; a physical standby is PostgreSQL's own copy.",
                exit: .blocked)
        }
        let replication = configuration.replication
        let isAdopted = replication.publication != nil && configuration.tables.isEmpty
        let policy = try await origin.connected { isAdopted ? nil : try await loaded.policy($0) }
        return others.map { target in
            DirectionSettings(
                sourceName: origin.name, targetName: target.name, source: origin.options, target: target.options,
                slot: replication.slot ?? "", publication: replication.publication ?? "", backend: configuration.backend,
                replication: replication, policy: policy)
        }
    }
}
