import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct SequencesGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sequences", abstract: "Share the numbers of sequences between the two sides of a split, and take them back.",
        discussion: """
            Where both sides make rows, no number may be given twice. replication.sequences says how: interleave (every \
            other number for each side) or ranges (half of what is left for each). Sequences that one side alone needs \
            are only set ahead of what both sides hold. What a sequence was is recorded, and restore brings it back, \
            ahead of every number given since.

            Examples:
              lindero sequences plan
              lindero sequences apply
              lindero sequences restore
            """,
        subcommands: [SequencesPlan.self, SequencesApply.self, SequencesRestore.self])
}

struct SequencesPlan: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "The exact SQL for each side; changes nothing.",
        discussion: """
            The numbers are those of this moment: apply looks again, while it holds the sequences.

            Examples:
              lindero sequences plan
              lindero sequences plan --restore --json
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "What restore would run.")
    var restore = false

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let restore = restore
        let steps = try await SequencePlace.make(loaded, onlySplit: false).run {
            restore ? try await $0.planRestore() : try await $0.plan()
        }
        let report = SequenceReport(steps: steps, loaded: loaded)
        let next = restore ? "lindero sequences restore" : steps.isDone ? "lindero check" : "lindero sequences apply"
        answer(report.json, lines: report.lines(showsSQL: true) + ["Next: \(steps.hasProblem ? "mend that, then lindero sequences plan" : next)"])
        if steps.hasProblem { throw ExitCode(LinderoExit.blocked.rawValue) }
    }
}

struct SequencesApply: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Share them now: set ahead of both sides, and apart.",
        discussion: """
            Each sequence is held on both sides while it is changed; writers that want a number wait that long. May be \
            run again at any time: what is safe already stays as it is.

            Example:
              lindero sequences apply
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let steps = try await SequencePlace.make(loaded, onlySplit: true).run { try await $0.apply() }
        let report = SequenceReport(steps: steps, loaded: loaded)
        answer(report.json, lines: report.lines(showsSQL: false) + ["Next: lindero check"])
    }
}

struct SequencesRestore: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Give them their own settings back, ahead of every number given since.",
        discussion: """
            For the way back from a split, when one side alone makes rows again. Until then two sides would give the \
            same numbers.

            Example:
              lindero sequences restore
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let steps = try await SequencePlace.make(loaded, onlySplit: false).run { try await $0.restore() }
        let report = SequenceReport(steps: steps, loaded: loaded)
        answer(report.json, lines: report.lines(showsSQL: false) + ["Next: lindero status"])
    }
}

/// The two databases whose sequences are looked at.
struct SequencePlace: Sendable {
    var loaded: LoadedConfiguration
    var origin: Database
    var other: Database

    static func make(_ loaded: LoadedConfiguration, onlySplit: Bool) throws -> SequencePlace {
        let configuration = loaded.configuration
        let other = try loaded.others().first
        guard configuration.backend != .shared, let other, !onlySplit || configuration.backend == .split else {
            throw CommandFailure(
                "sequences", "In the backend \(configuration.backend.rawValue) one database alone gives numbers.", place: loaded.path,
                nextStep: onlySplit && configuration.backend == .replica
                    ? "Run `lindero sequences plan` to see what a split would do." : "Set `backend: split` first.",
                exit: .blocked)
        }
        return SequencePlace(loaded: loaded, origin: try loaded.origin(), other: other)
    }

    func run(_ body: (SequenceSplit) async throws -> SequenceSteps) async throws -> SequenceSteps {
        try await origin.connected { source in
            let policy = try await loaded.policy(source)
            return try await other.connected { target in
                let split = SequenceSplit(
                    origin: (origin.name, source), other: (other.name, target), policy: policy,
                    mode: loaded.configuration.replication.sequences)
                do {
                    return try await body(split)
                } catch let error as SequenceSplitError {
                    throw failure(error)
                }
            }
        }
    }

    private func failure(_ error: SequenceSplitError) -> CommandFailure {
        switch error {
        case .blocked(let steps):
            CommandFailure(
                "sequences",
                SequenceReport(steps: steps, loaded: loaded).problems.map(\.message).joined(separator: "\n"),
                place: "\(origin.place) and \(other.place)",
                nextStep: "Mend that, then run `lindero sequences plan`.", exit: .blocked)
        case .locked(let name, let side):
            CommandFailure(
                "sequences", "Sequence \(name) is in use: a transaction that took a number from it is open for too long.",
                place: side, nextStep: "Wait for it or end it, then run the same command again: what is done stays done.")
        case .notMigrated(let side):
            CommandFailure(
                "sequences", "The schema lindero is not up to date.", place: side,
                nextStep: "Run `lindero migrate`, then the same command again.", exit: .blocked)
        }
    }
}
