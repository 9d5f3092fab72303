import Foundation
import PostgresClient
import ReplicationCore
import Replicator
import Synchronization

/// Leads moves from one phase to the next, on behalf of a person: one at a time in each origin.
struct PhaseLead {
    /// What came of the works of a command.
    struct Outcome: Sendable {
        var state: PhaseState
        var moves: [PhaseMove] = []
        var entries: [PhaseStore.Entry] = []
    }

    let command: String
    let global: GlobalOptions
    /// Waits for gates and workers end after it; `nil` for never.
    let timeoutMilliseconds: Int?

    /// Runs moves until there is none left.
    ///
    /// - Parameter next: the move that a state asks for.
    func run(_ next: (PhaseState) -> PhaseMove?) async throws -> Outcome {
        let loaded = try LoadedConfiguration.load(global)
        let origin = try loaded.origin()
        var options = origin.options
        options.applicationName = "lindero \(command) \(Self.person)"
        return try await Database(name: origin.name, options: options).connected { connection in
            if let leader = try await PhaseLocks(connection: connection).lead() { throw Self.held(leader, origin, command: command) }
            // A record that a crash could take back would send the worker to what is taken down already.
            _ = try await connection.execute("SET synchronous_commit = on")
            try await Migrator(connection: connection).migrate()
            let store = PhaseStore(connection: connection)
            var outcome = Outcome(state: try await store.read() ?? PhaseState(phase: loaded.configuration.backend))
            while let move = next(outcome.state) {
                try await run(move, from: outcome.state, connection, loaded)
                outcome.moves.append(move)
                outcome.entries = try await store.entries()
                outcome.state = try await store.read() ?? outcome.state
                // The whole way, whatever was there before.
                if move.givesUp { break }
            }
            return outcome
        }
    }

    private func run(
        _ move: PhaseMove, from state: PhaseState, _ connection: PostgresConnection, _ loaded: LoadedConfiguration
    ) async throws {
        let store = PhaseStore(connection: connection)
        let pair = try PhasePair(loaded)
        // Before anything is noted: a worker of the split would follow.
        if !move.givesUp, [move.from, move.to].contains(.shared) || state.worker == .replica { try await PhaseWorks.requireReplica(pair, loaded) }
        let words = PhaseWords(
            origin: pair.origin.name, other: pair.other.name, gates: loaded.configuration.gates, move: move)
        let deadline = timeoutMilliseconds.map { Monotonic.milliseconds() + Int64($0) }
        var machine = PhaseMachine(move, after: state)
        var action = machine.handle(.start)
        var figures: [(String, JSONValue)] = []
        StandardError.write("\(move.from.rawValue) -> \(move.to.rawValue)\n")
        while true {
            switch action {
            case .begin(let record, _):
                try await store.begin(record, operator: Self.person)
                action = machine.handle(.recorded)
            case .perform(let number, let work):
                let line = PhaseLine(
                    "[\(number)/\(move.works.count)] \(work.step.rawValue): \(words.words(work))")
                let works = PhaseWorks(
                    move: move, loaded: loaded.following(state).running(work.worker), pair: pair, locks: PhaseLocks(connection: connection),
                    line: line, deadlineMilliseconds: deadline, command: command)
                figures = try await LeadWatch(connection: connection, place: pair.origin.place, command: command).whileLeading {
                    try await works.perform(work)
                }
                line.done(figures)
                action = machine.handle(.done)
            case .end(let record):
                try await store.end(record, figures: JSONValue.object(figures).line)
                action = machine.handle(.recorded)
            case .settled:
                return
            }
        }
    }

    /// Who is told to others: user, host and process.
    static let person =
        "\(ProcessInfo.processInfo.userName)@\(ProcessInfo.processInfo.hostName.prefix(20)):\(ProcessInfo.processInfo.processIdentifier)"

    static func held(_ leader: String, _ origin: Database, command: String) -> CommandFailure {
        CommandFailure(
            "phase_held", "Somebody leads a move already: \(leader).", place: origin.place,
            nextStep: "Wait for it (`lindero status` tells how far it is), or end that session; then `lindero \(command)` goes on.",
            exit: .blocked)
    }
}

/// The two databases between which a system moves.
struct PhasePair: Sendable {
    var origin: Database
    var other: Database

    init(_ loaded: LoadedConfiguration) throws {
        origin = try loaded.origin()
        let others = try loaded.others()
        guard let other = others.first, others.count == 1 else {
            throw CommandFailure(
                "phase", "A move is between two databases; the configuration names \(others.count + 1) that can be written.",
                place: loaded.path, nextStep: "Name two under databases:, beside physical standbys.", exit: .blocked)
        }
        self.other = other
    }
}

/// One piece of work on a terminal: a line that is repainted while it runs and stays when it is done.
struct PhaseLine: Sendable {
    /// How often what it waits for is told where there is no terminal, when that is the same with other figures.
    private static let againMilliseconds: Int64 = 10_000

    private let text: String
    private let began = Monotonic.milliseconds()
    private let told = Told()

    private final class Told: Sendable {
        let last = Mutex<(kind: String, atMilliseconds: Int64)>(("", 0))
    }

    init(_ text: String) {
        self.text = text
        if StandardError.isTerminal { StatusLine.show(text) } else { StandardError.write(text + "\n") }
    }

    /// What it waits for; elsewhere than on a terminal only what is new is told.
    func show(_ state: String) {
        if StandardError.isTerminal { return StatusLine.show("\(text): \(state)") }
        let kind = String(state.filter { !$0.isNumber })
        let now = Monotonic.milliseconds()
        let isNews = told.last.withLock { last in
            if kind == last.kind, now - last.atMilliseconds < Self.againMilliseconds { return false }
            last = (kind, now)
            return true
        }
        // What is over at once is not worth a line.
        if isNews, now - began > 1_000 { StandardError.write("    waits: \(state)\n") }
    }

    func tell(_ news: String) {
        StatusLine.clear()
        StandardError.write("    \(news)\n")
    }

    func done(_ figures: [(String, JSONValue)]) {
        StatusLine.clear()
        let seconds = PlainText.seconds(Double(Monotonic.milliseconds() - began) / 1_000)
        let told = figures.isEmpty ? "" : " \(JSONValue.object(figures).line)"
        StandardError.write(StandardError.isTerminal ? "\(text), \(seconds)\(told)\n" : "    done in \(seconds)\(told)\n")
    }
}
