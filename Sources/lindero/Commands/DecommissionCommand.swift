import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

struct DecommissionCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "decommission", abstract: "What Lindero left in each database, and its removal by name.",
        discussion: """
            Without --remove it lists slots, publications, replication origins, the schema lindero, the guard, replica \
            identities, roles of the other service that still may write, and columns that no longer get updates: each with \
            a name, whether the phase needs it, what it costs, and the exact SQL of its removal. With --remove it removes \
            exactly what is named, after everything named was looked at; what is in use, or needed while a worker runs, is \
            refused. lindero migrate --down removes everything at once, except columns and privileges.

            Examples:
              lindero decommission
              lindero decommission --remove bot:slot/lindero_hotel_feed
              lindero decommission --remove bot:role/sync_app --remove sync:column/public.Reservas.crmNotes
            """)

    @OptionGroup var global: GlobalOptions

    @Option(name: .customLong("remove"), help: ArgumentHelp("Remove this; may be given again.", valueName: "name"))
    var names: [String] = []

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let scene = try await DecommissionScene.read(loaded)
        guard !names.isEmpty else {
            let report = DecommissionReport(scene: scene, database: { scene.databases[$0]?.place ?? $0 })
            return answer(report.json, lines: report.lines)
        }
        let choice: Decommission.Choice
        do {
            choice = try scene.decommission.choose(names)
        } catch {
            throw CommandFailure(error, loaded.path)
        }
        for remnant in choice.remnants {
            StandardError.write("\(remnant.name): \(remnant.words)\n")
            for statement in remnant.sql { StandardError.write("    \(statement.split(separator: "\n").joined(separator: "\n    "))\n") }
            guard let database = scene.databases[remnant.database] else { continue }
            try await remove(remnant, from: database)
        }
        let notes = try await check(choice.remnants, loaded)
        answer(
            .object([
                ("removed", .texts(choice.remnants.map(\.name))), ("gone", .texts(choice.gone)), ("notes", .texts(notes)),
            ]),
            lines: choice.remnants.map { "removed \($0.name)" } + choice.gone.map { "\($0) is not there (any more)" }
                + notes + ["Next: lindero decommission"])
    }

    private func remove(_ remnant: Remnant, from database: Database) async throws {
        try await database.connected { connection in
            do {
                if remnant.kind == .guarded {
                    try await GuardCommand.remove(connection: connection)
                } else {
                    try await RemnantRemoval(connection: connection).run(remnant)
                }
            } catch let failure as RemnantRemoval.Failure {
                throw CommandFailure(failure, remnant)
            }
        }
    }

    /// Whether what was removed is gone.
    private func check(_ removed: [Remnant], _ loaded: LoadedConfiguration) async throws -> [String] {
        let left = try await DecommissionScene.read(loaded).decommission.remnants
        var notes: [String] = []
        for remnant in removed {
            if remnant.kind == .column {
                notes.append("Take the column out of lindero.yaml, too: \(remnant.object).")
            }
            guard let still = left.first(where: { $0.name == remnant.name }) else { continue }
            guard still.kind == .role, still.sql.isEmpty, let obstacle = still.obstacle else {
                throw CommandFailure(
                    "decommission", "\(remnant.name) is still there: \(still.words).", place: remnant.database,
                    nextStep: "Privileges that another role granted only that role can revoke: run the SQL that `lindero decommission` shows as that role.")
            }
            notes.append("\(remnant.name): \(obstacle)")
        }
        return notes
    }
}

extension CommandFailure {
    init(_ problems: Decommission.Problems, _ path: String) {
        let messages = problems.problems.map { problem in
            switch problem {
            case .unknown(let name, let nearest):
                "There is no \"\(name)\"\(nearest.map { " (did you mean \"\($0)\"?)" } ?? "")."
            case .refused(let name, let because): "\(name): \(because)."
            }
        }
        self.init(
            "decommission", messages.joined(separator: "\n") + "\nNothing was removed.", place: path,
            nextStep: "`lindero decommission` lists what is there, under which names.", exit: .blocked)
    }

    init(_ failure: RemnantRemoval.Failure, _ remnant: Remnant) {
        switch failure {
        case .inUse:
            self.init(
                "decommission", "\(remnant.name) is in use. It was not removed.", place: remnant.database,
                nextStep: "Stop `lindero run`, or whoever uses it, then run the same command again.", exit: .blocked)
        case .locked:
            self.init(
                "decommission", "\(remnant.name) was waited for in vain: other sessions use the table. It was not removed.",
                place: remnant.database, nextStep: "Run the same command again at a quieter moment.")
        }
    }
}
