import ReplicationCore
import Replicator

/// What is to be done about sequences, or was, for people and scripts.
struct SequenceReport {
    var steps: SequenceSteps
    var origin: String
    var other: String
    var mode: ReplicationSettings.Sequences

    init(steps: SequenceSteps, loaded: LoadedConfiguration) {
        self.init(
            steps: steps, origin: loaded.configuration.origin,
            other: loaded.configuration.others.first?.name ?? "",
            mode: loaded.configuration.replication.sequences)
    }

    init(steps: SequenceSteps, origin: String, other: String, mode: ReplicationSettings.Sequences) {
        self.steps = steps
        self.origin = origin
        self.other = other
        self.mode = mode
    }

    /// What stands now, without a look into the tables; `nil` outside of a split.
    static func read(_ loaded: LoadedConfiguration) async throws -> SequenceReport? {
        guard loaded.configuration.backend == .split else { return nil }
        let steps = try await SequencePlace.make(loaded, onlySplit: true).run { try await $0.plan(readsTables: false) }
        return SequenceReport(steps: steps, loaded: loaded)
    }

    /// One line for `status`; `nil` when no numbers are shared.
    var words: String? {
        let shared = steps.steps.filter(\.pair.isShared)
        guard !shared.isEmpty || steps.hasProblem else { return nil }
        let count = "\(shared.count) shared"
        if steps.hasProblem { return "\(count), with problems (lindero sequences plan)" }
        if shared.contains(where: { $0.plan != nil }) { return "\(count), not safe yet (lindero sequences apply)" }
        let least = shared.flatMap { step in sides.map { (step: step, side: $0.name, headroom: $0.state(step.pair).headroom) } }
            .min { $0.headroom < $1.headroom }
        guard let least else { return "\(count), safe" }
        let column = least.step.pair.columns.first.map { "\($0.table).\($0.column)" } ?? ""
        return "\(count), safe, at least \(PlainText.percent(least.headroom)) of the numbers left (\(column) on \(least.side))"
    }

    var problems: [(message: String, fix: String)] { SequenceWords(origin: origin, other: other).problems(steps) }

    private var sides: [(name: String, state: (SequencePair) -> SequenceState, change: (SequencePlan) -> SequenceChange?)] {
        [(origin, { $0.origin }, { $0.origin }), (other, { $0.other }, { $0.other })]
    }

    func lines(showsSQL: Bool) -> [String] {
        if steps.steps.isEmpty, !steps.hasProblem { return ["No column of these tables has a sequence on both sides."] }
        var table = TextTable(["columns", "numbers", "state", "side", "next", "step", "left"])
        for step in steps.steps {
            let columns = step.pair.columns.map { "\($0.table).\($0.column)" }.joined(separator: ", ")
            for side in sides {
                let state = side.state(step.pair)
                let change = step.plan.flatMap(side.change)
                table.add([
                    columns, step.pair.isShared ? "shared" : "own", step.problem != nil ? "blocked" : step.plan == nil ? "safe" : "change",
                    side.name, (change?.restart ?? state.nextValue).map { "\($0)" } ?? "none",
                    "\(change?.settings.increment ?? state.settings.increment)", PlainText.percent(state.headroom),
                ])
            }
        }
        var lines = steps.steps.isEmpty ? [] : table.lines
        if showsSQL {
            for side in sides {
                let statements = steps.steps.compactMap { $0.plan.flatMap(side.change)?.sql }
                if !statements.isEmpty { lines += ["", "-- \(side.name)"] + statements }
            }
        }
        for problem in problems { lines += ["blocker: \(problem.message)", "    fix: \(problem.fix)"] }
        return lines
    }

    var json: JSONValue {
        .object([
            ("mode", .text(mode.rawValue)),
            ("sequences", .array(steps.steps.map(json))),
            ("problems", .texts(problems.map(\.message))),
        ])
    }

    private func json(_ step: SequenceStep) -> JSONValue {
        let states = sides.map { side in
            let state = side.state(step.pair)
            let change = step.plan.flatMap(side.change)
            return JSONValue.object([
                ("database", .text(side.name)), ("sequence", .text("\(state.name)")),
                ("next", .optional(change?.restart ?? state.nextValue)),
                ("step", .integer(change?.settings.increment ?? state.settings.increment)),
                ("remaining", .optional(state.remaining)), ("headroom", .number(state.headroom)),
                ("sql", .optional(change?.sql)),
            ])
        }
        return .object([
            ("columns", .texts(step.pair.columns.map { "\($0.table).\($0.column)" })), ("shared", .bool(step.pair.isShared)),
            ("safe", .bool(step.plan == nil && step.problem == nil)), ("sides", .array(states)),
        ])
    }
}
