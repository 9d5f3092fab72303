@testable import ReplicationCore

/// What a run is asked for.
protocol SimulationChoices: Sendable {
    var isTraced: Bool { get }
    init()
}

/// Databases, their clients and a worker: step by step in an order that the seed decides, then to rest, then looked at.
protocol Simulation {
    associatedtype Options: SimulationChoices
    /// Which tests replay a seed.
    static var suite: String { get }
    var seed: UInt64 { get }
    var length: Int { get }
    var options: Options { get }
    var random: SplitMix { get set }
    var trace: [String] { get set }

    init(seed: UInt64, length: Int, options: Options) throws
    mutating func step() throws
    mutating func drain() throws
    func check() throws
}

extension Simulation {
    /// Runs to the end and checks it.
    ///
    /// - Parameter length: of the run, in steps, at most and about.
    static func run(seed: UInt64, length: Int, options: Options = Options()) throws {
        var simulation = try Self(seed: seed, length: length, options: options)
        do {
            for _ in 0..<(12 + simulation.random.below(length)) { try simulation.step() }
            try simulation.drain()
            try simulation.check()
        } catch let error as SimulationFailure {
            throw error
        } catch {
            throw simulation.failure("\(error)")
        }
    }

    func failure(_ what: String) -> SimulationFailure {
        SimulationFailure(seed: seed, length: length, what: what, trace: trace, suite: Self.suite)
    }

    mutating func note(_ what: @autoclosure () -> String) {
        if options.isTraced { trace.append(what()) }
    }
}

/// What a run of a simulation found.
struct SimulationFailure: Error, CustomStringConvertible {
    var seed: UInt64
    var length: Int
    var what: String
    var trace: [String]
    var suite: String

    var description: String {
        "\(what) (LINDERO_SPLIT_SEED=\(seed) LINDERO_SPLIT_LENGTH=\(length) swift test --filter \(suite))"
            + trace.map { "\n    " + $0 }.joined()
    }
}

extension SplitMix {
    mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 1) % bound }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}
