import Foundation
import Testing

@testable import ReplicationCore

/// The model check of the split: the real core between two simulated databases, in every order that a seed can think of.
///
/// `LINDERO_SPLIT_SEED=N LINDERO_SPLIT_LENGTH=M` replays one run, and prints every step of it when it fails.
/// `LINDERO_LONG=1` makes it a million runs, and longer ones (`deploy/test.sh --long`).
@Suite struct SplitSimulationTests {
    static let environment = ProcessInfo.processInfo.environment
    static let isLong = environment["LINDERO_LONG"] == "1"
    static let replayedSeed = environment["LINDERO_SPLIT_SEED"].flatMap(UInt64.init)
    static let length = environment["LINDERO_SPLIT_LENGTH"].flatMap(Int.init) ?? (isLong ? 80 : 30)
    static let count: UInt64 = isLong ? 1_000_000 : 20_000
    static let parts: UInt64 = 4

    @Test(arguments: 0..<parts) func bothSidesConvergeAsPromised(part: UInt64) async throws {
        try await run(part, SimulationOptions())
    }

    @Test(arguments: 0..<parts) func bothSidesConvergeWhileOwnersMoveBackAndForth(part: UInt64) async throws {
        try await run(part, SimulationOptions(hasMoves: true))
    }

    @Test(arguments: 0..<parts) func bothSidesConvergeWhilePoliciesChange(part: UInt64) async throws {
        try await run(part, SimulationOptions(hasMoves: part % 2 == 1, hasPolicies: true))
    }

    private func run(_ part: UInt64, _ options: SimulationOptions) async throws {
        try await onItsOwnThread {
            if let seed = Self.replayedSeed {
                var options = options
                options.isTraced = true
                if part == 0 { try SplitSimulation.run(seed: seed, length: Self.length, options: options) }
                return
            }
            let each = Self.count / Self.parts
            for seed in (part * each)..<((part + 1) * each) {
                try SplitSimulation.run(seed: seed, length: Self.length, options: options)
            }
        }
    }
}
