import ArgumentParser
import ReplicationCore
import Replicator
import Synchronization

struct AdvanceCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "advance", abstract: "Go to the next phase, step by step: shared, replica, split. A dry run without --execute.",
        discussion: """
            Prints every step, what it changes, how long it may take, and the gates; changes nothing. With --execute it does \
            them, beside a worker (lindero run) that follows. Every step is recorded in lindero.phase on the origin: ended in \
            any way, the same command goes on where it was, and lindero rollback goes back from there.

            Examples:
              lindero advance --to replica
              lindero advance --to replica --execute
              lindero advance --to split --execute --timeout 30min
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "The phase to get to: replica or split.")
    var to: Phase

    @OptionGroup var moving: PhaseOptions

    func validate() throws {
        if to == .shared { throw ValidationError("shared is the first phase; lindero rollback goes back.") }
    }

    func perform() async throws {
        let target = to
        try await moving.perform("advance --to \(target.rawValue)", self) { $0.advance(to: target) }
    }
}

struct RollbackCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollback", abstract: "Go back to the previous phase, with nothing lost. A dry run without --execute.",
        discussion: """
            From any step: also out of an advance that is under way. What was written on the other side comes back first, \
            then its services, then what is no longer needed is taken down. lindero status says whether it is safe, and why.

            Examples:
              lindero rollback
              lindero rollback --execute
              lindero rollback --to shared --execute
                  run again after a kill, it goes no further than that
              lindero rollback --lost sync
                  sync's database is lost for good: what would be lost with it, and the way to shared without it
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "The phase to get back to: replica or shared. Default: the previous one.")
    var to: Phase?

    @Option(help: ArgumentHelp("A database of a split that is lost for good: go on without it, and without what it alone had.", valueName: "name"))
    var lost: String?

    @OptionGroup var moving: PhaseOptions

    func validate() throws {
        if to != nil, lost != nil { throw ValidationError("--lost leads to shared; leave --to out.") }
    }

    func perform() async throws {
        if let lost { return try await LostRollback(lost: lost, moving: moving).perform(self) }
        if let target = to { return try await moving.perform("rollback --to \(target.rawValue)", self) { $0.rollback(to: target) } }
        let moves = FirstOnly()
        try await moving.perform("rollback", self) { moves.take($0.rollback()) }
    }
}

/// Lets one move pass: a rollback goes back one phase, however many there are.
private final class FirstOnly: Sendable {
    private let first = Mutex<PhaseMove?>(nil)

    func take(_ move: PhaseMove?) -> PhaseMove? {
        first.withLock { first in
            guard let known = first else {
                first = move
                return move
            }
            return known == move ? move : nil
        }
    }
}

struct PhaseOptions: ParsableArguments {
    @Flag(help: "Do it.")
    var execute = false

    @Option(help: "Give up waiting after, such as 30min; what is done stays done. Default: never.")
    var timeout: String?

    func validate() throws {
        if let timeout, WaitDuration.milliseconds(timeout) == nil {
            throw ValidationError("--timeout takes a duration such as 90s or 30min, not '\(timeout)'.")
        }
    }

    func perform(_ name: String, _ command: some LinderoCommand, _ next: @escaping @Sendable (PhaseState) -> PhaseMove?) async throws {
        let loaded = try await LoadedConfiguration.current(command.global)
        if let problem = loaded.phaseProblem {
            throw CommandFailure(
                "phase_unknown", problem, place: try loaded.origin().place,
                nextStep: "Use a role that may read lindero.phase there; then `lindero \(name)` again.", exit: .blocked)
        }
        if loaded.state.isForeign {
            throw CommandFailure(
                PhaseStore.UnknownWord.code, "lindero.phase has steps that this Lindero would not have taken.", place: try loaded.origin().place,
                nextStep: "End the move with the Lindero that began it: `lindero version` there.", exit: .blocked)
        }
        let preview = try await PhasePreview.make(loaded, next)
        if preview.moves.isEmpty, let move = loaded.state.move {
            throw CommandFailure(
                "phase", "A move is under way: \(loaded.state.words).", place: try loaded.origin().place,
                nextStep: move.givesUp
                    ? "Run `lindero rollback --lost \(loaded.configuration.others.first?.name ?? "NAME") --execute`" + (loaded.state.splitToGiveUp == nil ? "." : ", or advance to split: nothing of it was taken down yet.")
                    : move.isForward ? "Run `lindero advance --to \(move.to.rawValue) --execute` or `lindero rollback --execute`."
                    : "Run `lindero rollback --execute`, or advance to \(move.from.rawValue).", exit: .blocked)
        }
        if preview.moves.isEmpty {
            let phase = loaded.state.phase.rawValue
            // What lindero.yaml says is where one is, also before a worker has begun it.
            let directions = (try? await LagDirection.reports(loaded, standbys: false)) ?? []
            let isAhead = !directions.isEmpty
                && directions.allSatisfy { $0.state == .notStarted && $0.isSlotActive != true && $0.problem == nil }
            return command.answer(
                preview.json,
                lines: isAhead
                    ? ["already there: \(phase), as lindero.yaml says; a worker has yet to begin it. Nothing was changed.", "Next: lindero run"]
                    : ["already there: \(phase). Nothing was changed.", "Next: lindero status"])
        }
        guard execute else {
            command.answer(preview.json, lines: preview.lines(command: "lindero \(name)"))
            if preview.isBlocked { throw ExitCode(LinderoExit.blocked.rawValue) }
            return
        }
        if preview.isBlocked {
            for line in preview.lines(command: "lindero \(name)") { StandardError.write(line + "\n") }
            throw CommandFailure(
                "blocked", "Something stands in the way.", place: loaded.path,
                nextStep: "Mend the blockers, then run `lindero \(name) --execute` again.", exit: .blocked)
        }
        let lead = PhaseLead(command: "\(name) --execute", global: command.global, timeoutMilliseconds: timeout.flatMap { WaitDuration.milliseconds($0) })
        // Ctrl-C puts back what is held: clients that wait, a fence, a command that runs.
        let leading = Task { try await lead.run(next) }
        let stopRequest = StopRequest()
        WorkerSignals.install(atOnce: "`lindero \(name) --execute` goes on; `lindero rollback --execute` goes back.") {
            stopRequest.request()
            leading.cancel()
        }
        let outcome: PhaseLead.Outcome
        switch await leading.result {
        case .success(let value): outcome = value
        case .failure(let error) where stopRequest.isRequested:
            throw CommandFailure(
                "stopped", "Stopped as asked, in the middle of a move. \(CommandFailure(error).message)", place: loaded.path,
                nextStep: "`lindero \(name) --execute` goes on; `lindero rollback --execute` goes back.")
        case .failure(let error): throw error
        }
        command.answer(
            .object([
                ("phase", .text(outcome.state.phase.rawValue)),
                ("moves", .array(outcome.moves.map { .text("\($0.from.rawValue)->\($0.to.rawValue)") })),
                ("steps", .array(outcome.entries.map(\.json))),
            ]),
            lines: ["The phase is \(outcome.state.phase.rawValue)."] + (outcome.moves.contains(where: \.givesUp) ? [LostRollback.afterwards(loaded.configuration)] : [])
                + ["Next: lindero status"])
    }
}

extension Phase: ExpressibleByArgument {}

extension PhaseStore.Entry {
    var json: JSONValue {
        .object([
            ("number", .integer(Int64(record.number))), ("step", .text(record.step.rawValue)),
            ("work", .text(record.work.rawValue)), ("worker", .text(record.worker.rawValue)),
            ("operator", .text(operatorName)), ("beganAt", .text(beganAt)), ("seconds", .number(seconds)),
            ("ended", .bool(record.isEnded)), ("figures", .document(figures)),
        ])
    }
}
