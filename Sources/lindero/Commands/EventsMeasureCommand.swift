import ArgumentParser
import Configuration
import ReplicationCore
import Replicator

struct EventsMeasureCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure", abstract: "Count what waits in a slot, and how fast it can be read; applies nothing.",
        discussion: """
            Reads the slot up to what the source has written by now, decodes it and puts whole transactions together as \
            `lindero run` does, and tells what there was. A catch-up cannot be faster than that.

            It reads through a temporary copy of the slot, and needs one free in max_replication_slots: the slot itself \
            stays where it is, and a worker that uses it is not disturbed.

            Examples:
              lindero events measure
              lindero events measure --slot my_slot --publication my_publication --json
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "The slot; default: the worker's.")
    var slot: String?

    @Option(help: "The publication to read it with; default: the worker's.")
    var publication: String?

    @Option(help: ArgumentHelp("Stop there; default: what the source has written by now.", valueName: "lsn"))
    var until: String?

    func validate() throws {
        guard (slot == nil) == (publication == nil) else {
            throw ValidationError("Give --slot and --publication together, or neither of them.")
        }
        if let until, LSN(until) == nil { throw ValidationError("--until is a position such as 0/16B3748.") }
    }

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let origin = try loaded.origin()
        let settings = try await settings(loaded, origin)
        let stopRequest = StopRequest()
        WorkerSignals.install(atOnce: "The slot stands where it stood.") { stopRequest.request() }
        let end = until.flatMap { LSN($0) }
        let reading = Task { try await SlotReading(settings: settings, until: end).run() }
        stopRequest.onRequest { reading.cancel() }
        let contents: SlotContents
        do {
            contents = try await reading.value
        } catch {
            if stopRequest.isRequested { throw ExitCode(LinderoExit.interrupted.rawValue) }
            throw CommandFailure(error, place: origin.place)
        }
        answer(json(contents, settings), lines: lines(contents, settings))
    }

    private func settings(_ loaded: LoadedConfiguration, _ origin: Database) async throws -> DirectionSettings {
        if let slot, let publication {
            return DirectionSettings(
                sourceName: origin.name, targetName: "measure", source: origin.options, target: origin.options,
                slot: slot, publication: publication, backend: .shared, replication: loaded.configuration.replication,
                policy: nil)
        }
        let directions = try await WorkerPlan.make(loaded).tasks.flatMap(\.directions)
        guard let only = directions.first, directions.count == 1 else {
            let slots = directions.map(\.slot).joined(separator: ", ")
            throw CommandFailure(
                "slot", "The worker has several slots: \(slots).", place: loaded.path,
                nextStep: "Name one with --slot and --publication; both have the same name.", exit: .blocked)
        }
        return only
    }

    private func json(_ contents: SlotContents, _ settings: DirectionSettings) -> JSONValue {
        .object([
            ("slot", .text(settings.slot)), ("publication", .text(settings.publication)),
            ("fromLsn", .text("\(contents.startLSN)")), ("toLsn", .text("\(contents.endLSN)")),
            ("transactions", .integer(Int64(contents.transactions))), ("changes", .integer(Int64(contents.changes))),
            ("valueBytes", .integer(Int64(contents.valueBytes))), ("walBytes", .integer(Int64(contents.walBytes))),
            ("seconds", .number(Double(contents.milliseconds) / 1_000)),
            ("changesPerSecond", .optional(contents.changesPerSecond)),
            (
                "tables",
                .array(
                    sorted(contents).map { name, count in
                        .object([
                            ("table", .text("\(name)")), ("inserts", .integer(Int64(count.inserts))),
                            ("updates", .integer(Int64(count.updates))), ("deletes", .integer(Int64(count.deletes))),
                            ("truncations", .integer(Int64(count.truncations))),
                        ])
                    })
            ),
        ])
    }

    private func lines(_ contents: SlotContents, _ settings: DirectionSettings) -> [String] {
        var table = TextTable(["table", "inserts", "updates", "deletes", "truncations"])
        for (name, count) in sorted(contents) {
            table.add(["\(name)"] + [count.inserts, count.updates, count.deletes, count.truncations].map { "\($0)" })
        }
        let rate = contents.changesPerSecond.map { ", \(Int($0)) changes/s" } ?? ""
        return (contents.tables.isEmpty ? [] : table.lines + [""]) + [
            "\(settings.slot): \(contents.transactions) transactions, \(contents.changes) changes, "
                + "\(PlainText.bytes(contents.valueBytes)) of values, \(PlainText.bytes(contents.walBytes)) of WAL "
                + "(\(contents.startLSN) to \(contents.endLSN))",
            "read and decoded in \(Double(contents.milliseconds) / 1_000) s\(rate); nothing was applied or acknowledged",
            "Next: lindero lag",
        ]
    }

    private func sorted(_ contents: SlotContents) -> [(QualifiedName, SlotContents.Table)] {
        contents.tables.sorted { ($1.value.changes, $0.key) < ($0.value.changes, $1.key) }
    }
}
