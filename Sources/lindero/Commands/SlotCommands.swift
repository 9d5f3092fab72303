import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct SlotGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slot", abstract: "Slots of a split: go on where one has lost what came next.",
        discussion: """
            Examples:
              lindero slot renew sync
              lindero slot renew sync --execute
            """,
        subcommands: [SlotRenew.self])
}

struct SlotRenew: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "renew", abstract: "Make a side's slot anew, and go on without what it lost. A dry run without --execute.",
        discussion: """
            For a slot that was dropped or invalidated (max_slot_wal_keep_size), or made or advanced by somebody else: what the \
            side committed after the last of its commits that has arrived is in no log any more. The other side's slot and what waits in \
            it stay. Stop the worker first; afterwards run it again, and `lindero verify --repair` beside it.

            Examples:
              lindero slot renew sync
                  what would be missing on the other side; changes nothing
              lindero slot renew sync --execute
              lindero slot renew bot --give-up --execute
                  past a change that can't be carried across, such as a TRUNCATE
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The database whose slot it is.")
    var database: String

    @Flag(help: "Also where the slot has all that is to come: give up what waits in it.")
    var giveUp = false

    @Flag(help: "Do it.")
    var execute = false

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let pair = try PhasePair(loaded)
        let place = try loaded.database(database).place
        let isSide = [pair.origin.name, pair.other.name].contains(database) && loaded.configuration.backend == .split
        guard isSide, case .split(let settings)? = try await WorkerPlan.make(loaded).tasks.first else {
            throw CommandFailure(
                "slot", "\(database) is no side of a split: the phase is \(loaded.state.words).", place: place,
                nextStep: "Run `lindero check`: it says what a slot of another phase needs; a replica is copied anew.", exit: .blocked)
        }
        let renewal = SlotRenewal(settings: settings, database: database, logger: LineLogHandler.logger())
        let gap = try await renewal.gap()
        let far = database == pair.origin.name ? pair.other.name : pair.origin.name
        let losses = words(gap, far: far)
        guard execute else {
            let renews = gap.reason != nil || giveUp
            let options = gap.reason == nil ? " --give-up" : ""
            return answer(
                document(gap, begins: nil),
                lines: losses + ["Nothing was changed.", renews ? "Next: lindero slot renew \(database)\(options) --execute" : "Next: lindero run"])
        }
        let lsn = try await pair.origin.connected { connection in
            if let leader = try await PhaseLocks(connection: connection).lead() { throw PhaseLead.held(leader, pair.origin, command: "slot renew \(database)") }
            return try await renewal.renew(givesUp: giveUp)
        }
        answer(
            document(gap, begins: lsn),
            lines: losses + ["Slot \(gap.slot) on \(database) begins at \(lsn).", "Next: lindero run, then lindero verify --repair beside it"])
    }

    private func words(_ gap: SlotGap, far: String) -> [String] {
        guard gap.reason != nil || giveUp else {
            return ["Slot \(gap.slot) on \(database) has all that is to come after \(gap.since): nothing is lost, and nothing to be done."]
        }
        return [
            gap.reason ?? "Slot \(gap.slot) on \(database) has all that is to come. What waits in it is given up.",
            "Never to arrive on \(far) by itself:",
            "  what \(database) committed after \(gap.since)"
                + (gap.time.map { "; its last sign of life that is there is of \($0)" } ?? "") + ", until its slot is made anew",
            "What \(far) has still to send arrives. Where it wrote a shared column, or deleted a row, that \(database) wrote in that time, it stands.",
            "Rows that differ then: lindero verify --repair, beside the worker, brings owned columns by their owner, and names the rest.",
        ]
    }

    private func document(_ gap: SlotGap, begins lsn: LSN?) -> JSONValue {
        .object([
            ("database", .text(database)), ("slot", .text(gap.slot)), ("isLost", .bool(gap.reason != nil)),
            ("reason", .optional(gap.reason)), ("since", .text(gap.since.description)), ("lastHeartbeat", .optional(gap.time)),
            ("executed", .bool(lsn != nil)), ("begins", .optional(lsn?.description)),
        ])
    }
}
