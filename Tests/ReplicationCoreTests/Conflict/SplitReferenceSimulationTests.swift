import Testing

@testable import ReplicationCore

/// The model check of references in a split: which rows numbers mean, and what becomes of references to rows that go; in two
/// tables, in a chain of three, and from a table to itself.
///
/// Replayed, and made longer, as `SplitSimulationTests`.
@Suite struct SplitReferenceSimulationTests {
    @Test(arguments: 0..<SplitSimulationTests.parts)
    func referencesMeanOnBothSidesWhatTheirWritersMeant(part: UInt64) async throws {
        try await onItsOwnThread {
            let length = SplitSimulationTests.length
            if let seed = SplitSimulationTests.replayedSeed {
                if part == 0 { try ReferenceSimulation.run(seed: seed, length: length, options: ReferenceOptions(isTraced: true)) }
                return
            }
            let each = SplitSimulationTests.count / SplitSimulationTests.parts
            for seed in (part * each)..<((part + 1) * each) { try ReferenceSimulation.run(seed: seed, length: length) }
        }
    }

    struct Mutation: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var options = ReferenceOptions()

        /// - Parameter shape: where it is met more often.
        init(
            _ name: String, in shape: ReferenceShape? = nil, hasForeignKeys: Bool = true, _ fault: (inout ReferenceFaults) -> Void
        ) {
            testDescription = name
            options.shape = shape
            options.hasForeignKeys = hasForeignKeys
            fault(&options.faults)
        }

        init(_ name: String, rule: (inout ReferenceRules) -> Void) {
            testDescription = name
            rule(&options.rules)
        }
    }

    static let mutations = [
        Mutation("a number means who has it now", rule: { $0.goesBack = false }),
        Mutation("a key means who has it on the target", rule: { $0.follows = false }),
        Mutation("a delete does not say whose number it was") { $0.hidesNumbersOfDeletes = true },
        Mutation("answers are believed before the source is read") { $0.skipsSourceBarrier = true },
        Mutation("what the target did before the barrier is not looked at") { $0.neverFollows = true },
        Mutation("what the source has not seen is not told again", in: .pair(.keep)) { $0.omitsTellingAgain = true },
        Mutation("nothing is told where a delete meets a changed key") { $0.omitsTellingAll = true },
        Mutation("a row that a group makes and ends has no number") { $0.forgetsMadeRows = true },
        Mutation("references stay with the row that is not chosen") { $0.omitsMoves = true },
        Mutation("of its own references a side leaves some behind", in: .pair(.keep, owner: "sync"), hasForeignKeys: false) {
            $0.omitsLeft = true
        },
        Mutation("on_delete is not carried out") { $0.omitsOnDelete = true },
        Mutation("consequences do not travel") { $0.omitsConsequencesNote = true },
    ]

    private static let limit: UInt64 = 20_000

    /// A run that fails without it says nothing about a mutation.
    @Test func unbrokenTheirShapesPass() async throws {
        for mutation in Self.mutations where mutation.options.shape != nil {
            var options = mutation.options
            options.faults = ReferenceFaults()
            try await onItsOwnThread { [options] in
                for seed in 0..<SplitMutationTests.limit { try ReferenceSimulation.run(seed: seed, length: 80, options: options) }
            }
        }
    }

    @Test(arguments: mutations) func mutationIsCaught(mutation: Mutation) async {
        do {
            try await onItsOwnThread {
                for seed in 0..<Self.limit { try ReferenceSimulation.run(seed: seed, length: 80, options: mutation.options) }
            }
        } catch { return }
        Issue.record("\(mutation): not caught in \(Self.limit) runs")
    }
}
