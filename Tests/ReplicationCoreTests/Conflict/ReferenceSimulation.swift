@testable import ReplicationCore

/// What the reference simulation does wrong on purpose, outside the core.
struct ReferenceFaults: Sendable {
    /// A delete does not say whose number it was.
    var hidesNumbersOfDeletes = false
    /// What the source has read is not waited for before the answers are believed.
    var skipsSourceBarrier = false
    /// Rows that came to be meant are not held.
    var neverFollows = false
    /// Rows that nobody held are taken for what the history knew before.
    var skipsLastBarrier = false
    var omitsTellingAgain = false
    /// Where a delete meets a changed key.
    var omitsTellingAll = false
    /// The number of a row that a group makes and ends is not asked for.
    var forgetsMadeRows = false
    var omitsMoves = false
    var omitsOnDelete = false
    var omitsConsequencesNote = false
}

struct ReferenceOptions: Sendable {
    var rules = ReferenceRules()
    var faults = ReferenceFaults()
    var isTraced = false
}

/// Which hotel a row is: what has become one row is one.
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

/// Two databases with references, their clients and one worker, step by step in an order that the seed decides. The real core
/// decides what becomes of rows, which ones numbers mean, and what becomes of references; the simulation does what a target's
/// statements do.
///
/// Not in it: references that may not be empty, or that one side owns; rows that clients leave referring to nothing where keys
/// change as well; numbers that are used again while something still holds them; transactions in parts; chains of tables.
struct ReferenceSimulation {
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
        /// Whether it was begun again for rows that it came to refer to.
        var hasFollowed = false
    }

    enum OnDelete: CaseIterable { case nullify, delete, keep }

    let seed: UInt64
    let length: Int
    let options: ReferenceOptions
    var random: SplitMix
    var databases: [ReferenceDatabase]
    let layouts: [[SplitTable]]
    let resolvers: [SplitResolver]
    let onDelete: OnDelete
    /// Whether clients see to it that no room refers to a hotel that they delete.
    let hasForeignKeys: Bool
    /// Whether clients delete anything.
    let hasDeletes: Bool
    /// Whether they give hotels other codes. Where such changes cross, rows may go.
    let hasMoves: Bool
    let historyLimitBytes: Int
    var identities = ReferenceIdentities()
    // The worker's memory, by the side that is read: gone after a crash.
    var readers: [SplitReader] = []
    var places = [0, 0]
    var pending: [[Pending]] = [[], []]
    var groups: [Group?] = [nil, nil]
    var isDead = [false, false]
    var trace: [String] = []

    init(seed: UInt64, length: Int, options: ReferenceOptions) throws {
        (self.seed, self.length, self.options) = (seed, length, options)
        var random = SplitMix(state: seed)
        let policy =
            random.chance(70) ? SharedColumnRule(policy: .lastWrite) : SharedColumnRule(policy: .prefer, side: random.chance(50) ? "bot" : "sync")
        layouts = try (0..<2).map { try ReferenceTables.layouts(policy, source: $0) }
        resolvers = (0..<2).map { SplitResolver(local: ReferenceTables.sides[$0], remote: ReferenceTables.sides[1 - $0]) }
        onDelete = OnDelete.allCases[random.below(3)]
        hasDeletes = random.chance(75)
        hasMoves = random.chance(75)
        hasForeignKeys = hasMoves || random.chance(50)
        historyLimitBytes = random.chance(30) ? 400 + random.below(3_000) : 1 << 20
        // Numbers of the two sides overlap, and mean other rows.
        databases = (0..<2).map { ReferenceDatabase(clock: Int64(random.below(60)), nextNumber: 10 * (1 + $0)) }
        self.random = random
        startWorker()
    }

    /// Runs to the end and checks it.
    static func run(seed: UInt64, length: Int, options: ReferenceOptions = ReferenceOptions()) throws {
        var simulation = try ReferenceSimulation(seed: seed, length: length, options: options)
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
        SimulationFailure(seed: seed, length: length, what: what, trace: trace, suite: "SplitReferenceSimulationTests")
    }

    mutating func note(_ what: @autoclosure () -> String) {
        if options.isTraced { trace.append(what()) }
    }

    // MARK: steps

    private mutating func step() throws {
        let side = random.below(2)
        switch random.below(100) {
        case ..<40: stepWriter(side)
        case ..<60: if !isDead[side] { _ = try read(side) }
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
        pending = [[], []]
        groups = [nil, nil]
    }

    /// One stream was cut, and begins again; the other one goes on.
    private mutating func reconnect(_ side: Int) {
        note("\(side) is read anew")
        release(1 - side)
        readers[side] = makeReader(side)
        places[side] = start(side)
        pending[side] = []
        groups[side] = nil
    }

    private func makeReader(_ side: Int) -> SplitReader {
        SplitReader.restart(
            ownOrigin: Self.origin(into: side), outgoing: databases[1 - side].incoming, incoming: databases[side].incoming,
            tableIDs: Dictionary(uniqueKeysWithValues: ReferenceTables.names.enumerated().map { ($1, $0) }),
            historyLimitBytes: historyLimitBytes, storage: .memory())
    }

    static func origin(into side: Int) -> String { "lindero_into_\(ReferenceTables.sides[side])" }

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

    mutating func read(_ side: Int) throws -> Bool {
        guard !hasRead(side) else { return false }
        var chunk = databases[side].log[places[side]].chunk
        places[side] += 1
        if options.faults.hidesNumbersOfDeletes {
            for change in chunk.changes where change.kind == .delete { chunk.arena.cells[change.old.firstCell + 1].kind = .null }
        }
        let layouts = layouts[side]
        for transaction in try readers[side].read(chunk, tableOf: { layouts[$0] }) {
            pending[side].append(Pending(transaction: transaction, chunk: chunk))
        }
        if pending[side].isEmpty { readers[1 - side].history.trim(to: readers[side].seen.lsn) }
        return true
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

    func check() throws {
        for side in 0..<2 {
            guard hasRead(side), pending[side].isEmpty, groups[side] == nil else {
                throw failure("side \(side) came to rest with work left")
            }
            guard readers[side].history.isEmpty, readers[side].history.sizeBytes == 0 else {
                throw failure("the history of side \(side) keeps what both have seen")
            }
        }
        let both = databases.map(\.rows)
        let words = both.map { rows in
            let hotels = rows.hotels.keys.sorted().map(String.init).joined(separator: " ")
            let rooms = rows.rooms.keys.sorted().map { "\($0) in \(rows.code(of: rows.rooms[$0]?.number).map(String.init) ?? "-")" }
            return "hotels \(hotels); rooms \(rooms.joined(separator: ", "))"
        }
        guard words[0] == words[1] else { throw failure("the sides differ, \(onDelete), \(hasForeignKeys): \(words[0]) | \(words[1])") }
        for code in both[0].hotels.keys {
            guard let first = both[0].hotels[code], let second = both[1].hotels[code], identities.areSame(first.identity, second.identity)
            else { throw failure("hotel \(code) is not the same on both sides") }
        }
        for side in 0..<2 { try checkReferences(both[side], side) }
    }

    /// What a direction has written means the hotel that the source's writer meant as soon as anybody sees it.
    func checkArrived(_ changes: some Sequence<ReferenceDatabase.Change>, on side: Int) throws {
        let rows = databases[side].rows
        for key in changes.lazy.filter({ $0.table == ReferenceTables.rooms }).compactMap({ $0.new?[0] }) {
            guard let room = rows.rooms[key], let code = rows.code(of: room.number), let hotel = rows.hotels[code] else { continue }
            guard let meant = room.meant, identities.areSame(meant, hotel.identity) else {
                throw failure("room \(key) of side \(side) came to refer to another hotel than its writer meant: \(code), \(onDelete)")
            }
        }
    }

    /// A reference means the hotel that its writer meant, or none; and none only where that is gone.
    func checkReferences(_ rows: ReferenceDatabase.Rows, _ side: Int) throws {
        for (key, room) in rows.rooms {
            guard let meant = room.meant else {
                if rows.code(of: room.number) != nil { throw failure("room \(key) of side \(side) refers to what nobody meant") }
                continue
            }
            guard let code = rows.code(of: room.number) else {
                if room.number != nil, onDelete != .keep, hasForeignKeys { throw failure("room \(key) of side \(side) keeps a number of nobody's, \(onDelete)") }
                let isThere = rows.hotels.values.contains { identities.areSame($0.identity, meant) }
                if isThere, !hasDeletes, !hasMoves { throw failure("room \(key) of side \(side) has lost its hotel, \(onDelete)") }
                continue
            }
            guard let hotel = rows.hotels[code], identities.areSame(hotel.identity, meant) else {
                throw failure("room \(key) of side \(side) refers to another hotel than its writer meant: \(code), \(onDelete)")
            }
        }
    }
}
