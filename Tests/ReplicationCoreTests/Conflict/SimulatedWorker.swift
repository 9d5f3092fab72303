@testable import ReplicationCore

/// What the simulation does wrong on purpose, outside the resolver.
struct WorkerFaults {
    var skipsBarrier = false
    /// The barrier is skipped where a guard on the old values holds: fooled by a value that went and came back.
    var trustsOldValues = false
    /// Keys of rows that are still to be inserted are not held.
    var leavesNewKeysFree = false
    var forgetsClock = false
    /// Transactions that change no row leave no trace in the stream.
    var omitsMessage = false
    var omitsNotes = false
    var omitsEcho = false
    /// Reads on from what is applied, without what the other side had not seen.
    var restartsAtProgress = false
    /// Data and progress commit apart.
    var losesProgress = false
    var appliesUnderCommitTime = false
    var forwardsOwn = false
    var trimsTooFar = false
    /// The history begins at what the other side has seen, although earlier writes of it still wait to be applied.
    var trimsWhileWaiting = false
    /// What one part of a transaction has decided is not known to the next.
    var forgetsEffectsOfParts = false
    /// A part lets go of its rows when it is written.
    var releasesPartsEarly = false
    /// All parts are decided after the first one's barrier.
    var sharesBarrierOfParts = false
    /// Ownership ends a transition before both sides have seen what the moved owner wrote.
    var narrowsEarly = false
    /// `GREATEST` where `LEAST` is meant, and the reverse.
    var swapsExtremes = false
    /// Rows that came whole are taken for such that got values of their own.
    var omitsWhole = false
}

/// The worker's memory: gone after a crash.
struct SimulatedWorker {
    struct Pending {
        var transaction: SplitTransaction
        var chunk: ChangeChunk
    }

    /// What a direction holds rows for, and is about to decide: whole transactions, or a piece of one.
    struct Group {
        /// Where it is among what is pending.
        var range: Range<Int>
        var barrierLSN: LSN
        var effects: GroupEffects
        /// Rows that it took hold of.
        var held: [Int]
    }

    /// Pieces of a transaction that are written in a target transaction which has not committed.
    struct Parts {
        var count = 0
        var barrierLSN = LSN.zero
        var effects = GroupEffects()
        var rows: [Int: SimulatedRow.Values?] = [:]
        var changes: [SimulatedChange] = []
        var conflicts: [SimulatedDatabase.LoggedConflict] = []
        var messages: [[UInt8]] = []
    }

    /// Of the side with this index.
    var readers: [SplitReader]
    /// Index into the side's log.
    var places: [Int]
    /// By the side that they come from.
    var pending: [[Pending]] = [[], []]
    var groups: [Group?] = [nil, nil]
    var parts: [Parts?] = [nil, nil]
    /// Changes that were read of a transaction which comes in two pieces.
    private var firstPart = [0, 0]
    let layouts: [SplitTable]
    private let historyLimitBytes: Int
    private let faults: WorkerFaults

    static func origin(into side: Int) -> String { "lindero_into_\(SimulatedRow.sides[side])" }

    init(databases: [SimulatedDatabase], layouts: [SplitTable], historyLimitBytes: Int, faults: WorkerFaults)
    {
        self.layouts = layouts
        self.historyLimitBytes = historyLimitBytes
        self.faults = faults
        readers = []
        places = [0, 0]
        for side in 0..<2 { readers.append(makeReader(side, databases)) }
        for side in 0..<2 { places[side] = start(of: side, databases[side]) }
    }

    private func makeReader(_ side: Int, _ databases: [SimulatedDatabase]) -> SplitReader {
        var outgoing = databases[1 - side].incoming
        var incoming = databases[side].incoming
        if faults.forgetsClock {
            outgoing.time = PostgresTime(microseconds: 0)
            incoming.context.time = PostgresTime(microseconds: 0)
        }
        if faults.restartsAtProgress { incoming.context.lsn = max(incoming.context.lsn, outgoing.appliedLSN) }
        return SplitReader.restart(
            ownOrigin: faults.forwardsOwn ? "" : Self.origin(into: side), outgoing: outgoing,
            incoming: incoming,
            tableIDs: [SimulatedRow.ownership.table: 0], historyLimitBytes: historyLimitBytes, storage: .memory())
    }

    private func start(of side: Int, _ database: SimulatedDatabase) -> Int {
        database.log.firstIndex { $0.chunk.transactions[0].commitLSN >= readers[side].startLSN }
            ?? database.log.count
    }

    /// One stream was cut, and begins again; the other one goes on.
    mutating func reconnect(_ side: Int, _ databases: [SimulatedDatabase]) {
        readers[side] = makeReader(side, databases)
        places[side] = start(of: side, databases[side])
        firstPart[side] = 0
        pending[side] = []
        groups[side] = nil
        parts[side] = nil
    }

    /// Reads the next transaction of a side's stream; false when there is none.
    ///
    /// - Parameter part: how many of its changes come now, if there are more.
    mutating func read(_ side: Int, from database: SimulatedDatabase, part: Int = .max) throws -> Bool {
        guard places[side] < database.log.count else { return false }
        var chunk = database.log[places[side]].chunk
        let count = chunk.transactions[0].changes.count
        let first = firstPart[side]
        if first > 0 {
            chunk.transactions[0].changes = first..<count
            chunk.transactions[0].precedingCount = first
            chunk.transactions[0].notes = Array(chunk.transactions[0].notes.dropFirst())
            firstPart[side] = 0
        } else if part < count {
            chunk.transactions[0].changes = 0..<part
            chunk.transactions[0].endLSN = .zero
            chunk.transactions[0].notes = Array(chunk.transactions[0].notes.prefix(1))
            chunk.endLSN = .zero
            firstPart[side] = part
        }
        if firstPart[side] == 0 { places[side] += 1 }
        var transactions = try readers[side].read(chunk, tableOf: { [layouts] _ in layouts[side] })
        // That fault looks at all old values.
        if !faults.trustsOldValues, historyLimitBytes & 1 == 0 {
            chunk = NeededValues.only(of: chunk, for: &transactions) { [layouts] _ in layouts[side] } ?? chunk
        }
        for transaction in transactions { pending[side].append(Pending(transaction: transaction, chunk: chunk)) }
        if pending[side].isEmpty || faults.trimsWhileWaiting {
            readers[1 - side].history.trim(to: readers[side].seen.lsn)
        }
        return true
    }

    /// Whether everything that the side's log holds has been read.
    func hasRead(_ side: Int, _ database: SimulatedDatabase) -> Bool { places[side] == database.log.count }

    /// The server says that there is nothing more before this position.
    mutating func noteIdle(_ side: Int, _ database: SimulatedDatabase) throws {
        var chunk = ChangeChunk()
        chunk.endLSN = database.endLSN
        _ = try readers[side].read(chunk, tableOf: { _ in nil })
    }
}
