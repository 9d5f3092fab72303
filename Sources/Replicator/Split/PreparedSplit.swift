import ReplicationCore

/// A group with its bulk statements, made ready while the target worked on the one before.
struct PreparedSplit: Sendable {
    let group: SplitGroup
    let parts: SplitTemperature
    let work: [GroupWork]
    /// The prepared statements that it names.
    let statementsGeneration: Int
    private(set) var isPrepared = true

    /// One whose tables the target's catalog has to be asked for first.
    static func unprepared(_ group: SplitGroup) -> PreparedSplit {
        var prepared = PreparedSplit(
            group: group, parts: SplitTemperature(allHot: group), work: [], statementsGeneration: 0)
        prepared.isPrepared = false
        return prepared
    }

    init(group: SplitGroup, parts: SplitTemperature, work: [GroupWork], statementsGeneration: Int) {
        self.group = group
        self.parts = parts
        self.work = work
        self.statementsGeneration = statementsGeneration
    }

    /// As ready as it can be without asking the target, and the builder afterwards.
    static func make(
        _ group: SplitGroup, targets: SplitTargets, ledger: SplitLedger, target: Side, builder: StepBuilder
    ) -> (PreparedSplit, StepBuilder) {
        var after = builder
        // What is written meanwhile is found out after the barrier.
        guard targets.hasAll(group),
            let parts = try? SplitTemperature(group, targets: targets, ledger: ledger, target: target),
            parts.cold.allSatisfy({ after.plans.hasAll($0.usedDefinitions) })
        else { return (.unprepared(group), builder) }
        let work = after.prepare(parts.cold, skipUpTo: .zero).work
        return (PreparedSplit(group: group, parts: parts, work: work, statementsGeneration: after.statements.generation), after)
    }
}
