@testable import ReplicationCore

struct SimulationOptions: SimulationChoices {
    var rules = ResolutionRules()
    var faults = WorkerFaults()
    var isTraced = false
    /// Whether the owners of columns move between the sides, while everybody writes.
    var hasMoves = false
    /// Whether shared columns get other policies.
    var hasPolicies = false
}

/// Two databases, their clients and one worker, step by step in an order that the seed decides.
struct SplitSimulation: Simulation {
    static let suite = "SplitSimulationTests"

    var random: SplitMix
    let seed: UInt64
    let length: Int
    let options: SimulationOptions
    var databases: [SimulatedDatabase]
    var worker: SimulatedWorker
    var truth: SimulatedTruth
    var layouts: [SplitTable]
    let echoesInserts: Bool
    /// Where the owners are on their way, and what each side's clients write.
    var moves = OwnerMoves()
    var policies = SimulatedPolicies()
    let historyLimitBytes: Int
    /// Values that clients write lie below it: few of them come back often.
    let valueCount: Int
    let resolvers: [SplitResolver]
    /// Directions that stand still for the time being, by source.
    var isDead = [false, false]
    var trace: [String] = []

    init(seed: UInt64, length: Int, options: SimulationOptions) throws {
        self.seed = seed
        self.length = length
        self.options = options
        var random = SplitMix(state: seed)
        // With unlike defaults, what a row gets from its database must travel back.
        let echoes = random.chance(50)
        echoesInserts = echoes && !options.faults.omitsEcho
        layouts = try SimulatedRow.layouts(echoesInserts: echoesInserts)
        let leavesOutEchoes = random.chance(50)
        databases = (0..<2).map { side in
            var defaults: SimulatedRow.Values = Array(repeating: nil, count: SimulatedRow.width)
            for owner in 0..<2 {
                defaults[SimulatedRow.owned(by: owner)] = echoes ? 1_000 * (side + 1) + owner : 500
            }
            defaults[SimulatedRow.delta] = 0
            return SimulatedDatabase(
                side: side, clock: random.chance(30) ? 5_000 : Int64(random.below(60)), defaults: defaults,
                leavesOutEchoes: leavesOutEchoes)
        }
        historyLimitBytes = random.chance(50) ? 400 + random.below(3_000) : 1 << 20
        valueCount = random.chance(50) ? 3 : 50
        truth = SimulatedTruth(defaults: databases.map(\.defaults))
        resolvers = (0..<2).map {
            SplitResolver(
                local: SimulatedRow.sides[$0], remote: SimulatedRow.sides[1 - $0], rules: options.rules)
        }
        worker = SimulatedWorker(
            databases: databases, layouts: layouts, historyLimitBytes: historyLimitBytes,
            faults: options.faults)
        self.random = random
        // A split may begin with a transition.
        if options.hasMoves, self.random.chance(50) { try widen() }
    }

    // MARK: steps

    mutating func step() throws {
        let side = random.below(2)
        if options.hasMoves, random.chance(6) { try stepOwners() }
        if options.hasPolicies, random.chance(5) { try stepPolicies() }
        switch random.below(100) {
        case ..<38: stepWriter(side)
        case ..<60:
            guard !isDead[side] else { break }
            let part = random.chance(20) ? 1 + random.below(3) : .max
            _ = try worker.read(side, from: databases[side], part: part)
        case ..<82: if !isDead[side] { _ = try stepApplier(from: side) }
        case ..<85: abort(from: side)
        case ..<90: try recordIdle(from: side, withNote: random.chance(50))
        case ..<93: try crash()
        case 93: try reconnect(side)
        case ..<97:
            databases[side].clock += random.chance(70) ? Int64(random.below(40)) : -Int64(random.below(30))
        default: isDead[side] = random.chance(50)
        }
        databases[side].clock += Int64(random.below(3))
    }

    mutating func crash() throws {
        note("crash")
        for side in 0..<2 { databases[side].release(.applier) }
        worker = SimulatedWorker(
            databases: databases, layouts: layouts, historyLimitBytes: historyLimitBytes,
            faults: options.faults)
        for side in 0..<2 { try checkStart(side) }
    }

    private mutating func reconnect(_ side: Int) throws {
        note("\(side) is read anew")
        databases[1 - side].release(.applier)
        worker.reconnect(side, databases)
        try checkStart(side)
    }

    /// What the server was told that it may forget is never asked for.
    private func checkStart(_ side: Int) throws {
        guard worker.readers[side].startLSN >= databases[side].confirmedLSN else {
            throw failure("side \(side) is to be read from \(worker.readers[side].startLSN), which is gone")
        }
    }

    private mutating func abort(from side: Int) {
        guard worker.groups[side] != nil || worker.parts[side] != nil else { return }
        note("abort \(side)->\(1 - side)")
        worker.groups[side] = nil
        worker.parts[side] = nil
        databases[1 - side].release(.applier)
    }

    /// With nothing to apply, the position alone is recorded.
    private mutating func recordIdle(from side: Int, withNote: Bool = false) throws {
        guard worker.pending[side].isEmpty, worker.groups[side] == nil else { return }
        if worker.hasRead(side, databases[side]) { try worker.noteIdle(side, databases[side]) }
        guard let position = worker.readers[side].position,
            position.appliedLSN > databases[1 - side].incoming.appliedLSN
        else { return }
        if withNote {
            let target = 1 - side
            let commitLSN = databases[target].append(
                [], commitTime: 0, origin: SimulatedWorker.origin(into: target),
                notes: [SplitNote.encode([position.appliedNote])])
            truth.commitIdle(into: target, position, as: commitLSN)
        }
        try record(position, from: side)
    }

    mutating func record(_ progress: SplitProgress, from side: Int) throws {
        let target = 1 - side
        let known = databases[target].incoming
        guard progress.appliedLSN >= known.appliedLSN, progress.time >= known.time,
            progress.context.lsn >= known.context.lsn, progress.context.time >= known.context.time
        else { throw failure("progress went back: \(known) to \(progress)") }
        databases[target].incoming = progress
        for source in 0..<2 where random.chance(50) {
            let confirmable = databases[1 - source].incoming.confirmableLSN(
                opposite: databases[source].incoming)
            databases[source].confirmedLSN = confirmable
        }
        let trimmed = options.faults.trimsTooFar ? databases[target].endLSN : progress.context.lsn
        worker.readers[target].history.trim(to: trimmed)
    }

    // MARK: the end

    mutating func drain() throws {
        isDead = [false, false]
        for side in 0..<2 { commitWriter(side) }
        note("writers stopped")
        for _ in 0..<10_000 {
            var isBusy = false
            for side in 0..<2 {
                if try worker.read(side, from: databases[side]) { isBusy = true }
                if try stepApplier(from: side) { isBusy = true }
                let known = databases[1 - side].incoming
                try recordIdle(from: side)
                if databases[1 - side].incoming != known { isBusy = true }
            }
            if !isBusy { return }
        }
        throw failure("the streams do not fall silent")
    }

    func check() throws {
        try checkLosers()
        let expected = truth.rows()
        for side in 0..<2 {
            guard worker.hasRead(side, databases[side]), worker.pending[side].isEmpty,
                worker.groups[side] == nil, worker.parts[side] == nil
            else {
                throw failure("side \(side) came to rest with work left")
            }
            guard worker.readers[side].history.isEmpty, worker.readers[side].history.sizeBytes == 0 else {
                throw failure("the history of side \(side) keeps what both have seen")
            }
            let found = databases[side].rows
            for key in Set(expected.keys).union(found.keys) where !Self.isSame(expected[key], found[key]) {
                throw failure(
                    "row \(key) of side \(side) is \(Self.words(found[key])), and must be \(Self.words(expected[key]))"
                )
            }
            let (recorded, due) = (Self.counts(databases[side].conflicts), Self.counts(truth.conflicts[side]))
            for (conflict, count) in recorded where due[conflict] != count {
                throw failure("side \(side) recorded \(conflict) \(count) times, not \(due[conflict] ?? 0)")
            }
            for (conflict, count) in due where recorded[conflict] != count {
                throw failure(
                    "side \(side) recorded \(conflict) \(recorded[conflict] ?? 0) times, not \(count)")
            }
        }
    }

    /// Every losing value is in the log, whatever the rules for each arrival say.
    private func checkLosers() throws {
        let logs = databases.map { Set($0.conflicts) }
        let forgotten = truth.forgotten { logs[$0].contains($1) }
        if let first = forgotten.first { throw failure("a lost value is in no log: \(first)") }
    }

    private static func counts(
        _ conflicts: [SimulatedDatabase.LoggedConflict]
    ) -> [SimulatedDatabase.LoggedConflict: Int] {
        conflicts.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }

    private static func isSame(_ left: SimulatedRow.Values?, _ right: SimulatedRow.Values?) -> Bool {
        guard let left, let right else { return left == nil && right == nil }
        // A counter that is NULL counts as 0.
        return left.indices.allSatisfy {
            $0 == SimulatedRow.delta ? (left[$0] ?? 0) == (right[$0] ?? 0) : left[$0] == right[$0]
        }
    }

    static func words(_ row: SimulatedRow.Values?) -> String {
        row.map { $0.map { $0.map(String.init) ?? "NULL" }.joined(separator: " ") } ?? "absent"
    }
}
