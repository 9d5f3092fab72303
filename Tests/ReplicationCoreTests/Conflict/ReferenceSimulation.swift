@testable import ReplicationCore

/// What the reference simulation does wrong on purpose, outside the core.
struct ReferenceFaults: Sendable {
    /// A delete does not say whose number it was.
    var hidesNumbersOfDeletes = false
    /// What the source has read is not waited for before the answers are believed.
    var skipsSourceBarrier = false
    /// Rows that came to be meant are not held.
    var neverFollows = false
    /// Those that came to be meant while others were taken hold of are not held.
    var followsOnce = false
    /// Keys of rows that are not there for having to wait are held by nobody.
    var forgetsWaitingRows = false
    /// Rows that nobody held are taken for what the history knew before.
    var skipsLastBarrier = false
    var omitsTellingAgain = false
    /// Where a delete meets a changed key.
    var omitsTellingAll = false
    /// The number of a row that a group makes and ends is not asked for.
    var forgetsMadeRows = false
    var omitsMoves = false
    /// What a side leaves behind that has deleted a row keeps its number.
    var omitsLeft = false
    /// Whose references they are is not looked at.
    var forgetsOwners = false
    var omitsOnDelete = false
    var omitsConsequencesNote = false
}

struct ReferenceOptions: SimulationChoices {
    var rules = ReferenceRules()
    var faults = ReferenceFaults()
    var isTraced = false
    /// Which tables there are, with clients that may do everything; `nil`: as the seed says.
    var shape: ReferenceShape?
    /// Of such tables.
    var hasForeignKeys = true
}

/// Which row of the world a row is: what has become one is one.
struct ReferenceIdentities {
    private var parents: [Int] = []

    mutating func make() -> Int {
        parents.append(parents.count)
        return parents.count - 1
    }

    func root(_ identity: Int) -> Int {
        var root = identity
        while parents[root] != root { root = parents[root] }
        return root
    }

    mutating func join(_ first: Int, _ second: Int) { parents[root(first)] = root(second) }
    func areSame(_ first: Int, _ second: Int) -> Bool { root(first) == root(second) }
}

/// Two databases with references, their clients and one worker. The real core decides what becomes of rows, which ones
/// numbers mean, and what becomes of references; the simulation does what a target's statements do.
///
/// Not in it: numbers that are used again while something still holds them; rows that are referred to before they are made, in
/// one transaction; transactions in parts, which a group that has references refuses (`SplitChunk.isDivisible`).
struct ReferenceSimulation: Simulation {
    static let suite = "SplitReferenceSimulationTests"
    /// How often a group begins again, at most, as the applier's.
    static let attempts = 5

    struct Pending {
        var transaction: SplitTransaction
        var chunk: ChangeChunk
    }

    /// What a direction is about to apply.
    struct Group {
        var count: Int
        var meanings: ReferenceMeanings
        /// The source has to be read to here before its answers are believed.
        var sourceLSN: LSN
        /// The target, before anything is decided; `nil` before rows are held.
        var barrierLSN: LSN?
        var effects = GroupEffects()
        var ended = EndedRows()
        var attempt = 1
    }

    let seed: UInt64
    let length: Int
    let options: ReferenceOptions
    var random: SplitMix
    var databases: [ReferenceDatabase]
    let shape: ReferenceShape
    let layouts: [[SplitTable]]
    let resolvers: [SplitResolver]
    /// Whether clients see to it that no row refers to one that they delete.
    let hasForeignKeys: Bool
    /// Whether clients delete anything.
    let hasDeletes: Bool
    /// Whether they give rows that are referred to other keys. Where such changes cross, rows may go.
    let hasMoves: Bool
    let historyLimitBytes: Int
    var identities = ReferenceIdentities()
    // The worker's memory, by the side that is read: gone after a crash.
    var readers: [SplitReader] = []
    var places = [0, 0]
    /// Changes that were read of a transaction which comes in two pieces.
    var firstPart = [0, 0]
    var pending: [[Pending]] = [[], []]
    var groups: [Group?] = [nil, nil]
    var isDead = [false, false]
    var trace: [String] = []

    init(seed: UInt64, length: Int, options: ReferenceOptions) throws {
        (self.seed, self.length, self.options) = (seed, length, options)
        var random = SplitMix(state: seed)
        hasDeletes = options.shape != nil || random.chance(75)
        hasMoves = options.shape != nil || random.chance(75)
        hasForeignKeys = options.shape != nil ? options.hasForeignKeys : random.chance(50)
        shape = options.shape ?? ReferenceShape(&random, hasDeletes: hasDeletes, hasForeignKeys: hasForeignKeys)
        layouts = try [shape.layouts(source: 0), shape.layouts(source: 1)]
        resolvers = (0..<2).map { SplitResolver(local: ReferenceShape.sides[$0], remote: ReferenceShape.sides[1 - $0]) }
        historyLimitBytes = random.chance(30) ? 400 + random.below(3_000) : 1 << 20
        // Numbers of the two sides overlap, and mean other rows.
        databases = (0..<2).map { [shape] in
            ReferenceDatabase(tableCount: shape.tables.count, clock: Int64(random.below(60)), nextNumber: 10 * (1 + $0))
        }
        self.random = random
        startWorker()
    }

    // MARK: steps

    mutating func step() throws {
        let side = random.below(2)
        switch random.below(100) {
        case ..<40: stepWriter(side)
        case ..<60: if !isDead[side] { _ = try read(side, part: random.chance(20) ? 1 + random.below(3) : .max) }
        case ..<84: if !isDead[side] { _ = try stepApplier(from: side) }
        case ..<86: abort(from: side)
        case ..<90: try recordIdle(from: side, withNote: random.chance(50))
        case ..<92: crash()
        case 92: reconnect(side)
        case ..<97: databases[side].clock += random.chance(70) ? Int64(random.below(40)) : -Int64(random.below(30))
        default: isDead[side] = random.chance(50)
        }
        databases[side].clock += Int64(random.below(3))
    }

    private mutating func crash() {
        note("crash")
        for side in 0..<2 { release(side) }
        startWorker()
    }

    private mutating func startWorker() {
        readers = (0..<2).map(makeReader)
        places = (0..<2).map(start)
        firstPart = [0, 0]
        pending = [[], []]
        groups = [nil, nil]
    }

    /// One stream was cut, and begins again; the other one goes on.
    private mutating func reconnect(_ side: Int) {
        note("\(side) is read anew")
        release(1 - side)
        readers[side] = makeReader(side)
        places[side] = start(side)
        firstPart[side] = 0
        pending[side] = []
        groups[side] = nil
    }

    private func makeReader(_ side: Int) -> SplitReader {
        SplitReader.restart(
            ownOrigin: Self.origin(into: side), outgoing: databases[1 - side].incoming, incoming: databases[side].incoming,
            tableIDs: Dictionary(uniqueKeysWithValues: shape.names().enumerated().map { ($1, $0) }),
            historyLimitBytes: historyLimitBytes, storage: .memory())
    }

    static func origin(into side: Int) -> String { "lindero_into_\(ReferenceShape.sides[side])" }

    private func start(_ side: Int) -> Int {
        let log = databases[side].log
        return log.firstIndex { $0.chunk.transactions[0].commitLSN >= readers[side].startLSN } ?? log.count
    }

    mutating func release(_ side: Int) {
        databases[side].held.removeAll()
        databases[side].kept.removeAll()
    }

    private mutating func abort(from side: Int) {
        if groups[side] == nil { return }
        note("abort \(side)->\(1 - side)")
        groups[side] = nil
        release(1 - side)
    }

    // MARK: reading

    /// - Parameter part: how many changes of the transaction come now, if there are more.
    mutating func read(_ side: Int, part: Int = .max) throws -> Bool {
        guard !hasRead(side) else { return false }
        var chunk = databases[side].log[places[side]].chunk
        if options.faults.hidesNumbersOfDeletes {
            for change in chunk.changes where change.kind == .delete { chunk.arena.cells[change.old.firstCell + 1].kind = .null }
        }
        cut(&chunk, side, part: part)
        let layouts = layouts[side]
        for transaction in try readers[side].read(chunk, tableOf: { layouts[$0] }) {
            pending[side].append(Pending(transaction: transaction, chunk: chunk))
        }
        if pending[side].isEmpty { readers[1 - side].history.trim(to: readers[side].seen.lsn) }
        return true
    }

    /// What comes of a transaction now: all of it, its first piece, or the rest.
    private mutating func cut(_ chunk: inout ChangeChunk, _ side: Int, part: Int) {
        let first = firstPart[side]
        let whole = chunk.transactions[0]
        firstPart[side] = 0
        if first > 0 {
            chunk.transactions[0].changes = first..<whole.changes.upperBound
            chunk.transactions[0].precedingCount = first
            keepNotes(&chunk.transactions[0]) { $0 > first }
        } else if part < whole.changes.count {
            chunk.transactions[0].changes = 0..<part
            chunk.transactions[0].endLSN = .zero
            keepNotes(&chunk.transactions[0]) { $0 <= part }
            chunk.endLSN = .zero
            firstPart[side] = part
            return
        }
        places[side] += 1
    }

    private func keepNotes(_ span: inout TransactionSpan, where isKept: (Int) -> Bool) {
        let kept = span.notePositions.indices.filter { isKept(span.notePositions[$0]) }
        span.notes = kept.map { span.notes[$0] }
        span.notePositions = kept.map { span.notePositions[$0] }
    }

    /// Whether everything that the side's log holds has been read.
    func hasRead(_ side: Int) -> Bool { places[side] == databases[side].log.count }

    /// Whether a side has been read to a position, where that is so because there is nothing more.
    mutating func hasPassed(_ lsn: LSN, _ side: Int) throws -> Bool {
        if readers[side].readLSN >= lsn { return true }
        guard hasRead(side) else { return false }
        try noteIdle(side)
        return true
    }

    private mutating func noteIdle(_ side: Int) throws {
        var chunk = ChangeChunk()
        chunk.endLSN = databases[side].endLSN
        _ = try readers[side].read(chunk, tableOf: { _ in nil })
    }

    /// With nothing to apply, the position alone is recorded.
    private mutating func recordIdle(from side: Int, withNote: Bool = false, isBeat: Bool = false) throws {
        guard pending[side].isEmpty, groups[side] == nil else { return }
        if hasRead(side) { try noteIdle(side) }
        let target = 1 - side
        guard let position = readers[side].position, position.appliedLSN > databases[target].incoming.appliedLSN || isBeat else { return }
        if withNote || isBeat {
            _ = databases[target].append(
                [], commitTime: 0, origin: Self.origin(into: target), notes: [(0, [position.appliedNote])])
        }
        record(position, from: side)
    }

    mutating func record(_ progress: SplitProgress, from side: Int) {
        let target = 1 - side
        databases[target].incoming = progress
        readers[target].history.trim(to: progress.context.lsn)
    }

    // MARK: the end

    mutating func drain() throws {
        isDead = [false, false]
        for side in 0..<2 { commitWriter(side) }
        note("writers stopped")
        try fallSilent()
        // Signs of life: what a side did for the other is known to be seen.
        for side in 0..<2 { try recordIdle(from: side, isBeat: true) }
        try fallSilent()
    }

    private mutating func fallSilent() throws {
        for _ in 0..<10_000 {
            var isBusy = false
            for side in 0..<2 {
                if try read(side) { isBusy = true }
                if try stepApplier(from: side) { isBusy = true }
                let known = databases[1 - side].incoming
                try recordIdle(from: side)
                if databases[1 - side].incoming != known { isBusy = true }
            }
            if !isBusy { return }
        }
        throw failure("the streams do not fall silent")
    }
}
