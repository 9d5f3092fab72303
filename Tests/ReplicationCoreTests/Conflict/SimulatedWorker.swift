@testable import ReplicationCore

/// What the simulation does wrong on purpose, outside the resolver.
struct WorkerFaults {
    var skipsBarrier = false
    /// The barrier is skipped where a guard on the old values holds: fooled by a value that went and came back.
    var trustsOldValues = false
    /// Keys of rows that are still to be inserted are not held.
    var leavesNewKeysFree = false
    var forgetsClock = false
    var forgetsContext = false
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
}

/// The worker's memory: gone after a crash.
struct SimulatedWorker {
    struct Pending {
        var transaction: SplitTransaction
        var chunk: ChangeChunk
    }

    /// A direction's target transaction under way.
    struct Group {
        var count: Int
        var barrierLSN: LSN
        var effects: GroupEffects
    }

    /// Of the side with this index.
    var readers: [SplitReader]
    /// Index into the side's log.
    var places: [Int]
    /// By the side that they come from.
    var pending: [[Pending]] = [[], []]
    var groups: [Group?] = [nil, nil]
    let layouts: [SplitTable]

    static func origin(into side: Int) -> String { "lindero_into_\(SimulatedRow.sides[side])" }

    init(databases: [SimulatedDatabase], layouts: [SplitTable], historyLimitBytes: Int, faults: WorkerFaults)
    {
        self.layouts = layouts
        readers = (0..<2).map { side in
            var outgoing = databases[1 - side].incoming
            var incoming = databases[side].incoming
            if faults.forgetsClock {
                outgoing.time = PostgresTime(microseconds: 0)
                incoming.context.time = PostgresTime(microseconds: 0)
            }
            if faults.forgetsContext { outgoing.context = CausalContext() }
            if faults.restartsAtProgress {
                incoming.context.lsn = max(incoming.context.lsn, outgoing.appliedLSN)
            }
            return SplitReader.restart(
                ownOrigin: faults.forwardsOwn ? "" : Self.origin(into: side), outgoing: outgoing,
                incoming: incoming,
                tableIDs: [SimulatedRow.ownership.table: 0], historyLimitBytes: historyLimitBytes)
        }
        places = (0..<2).map { [readers] side in
            databases[side].log.firstIndex { $0.chunk.transactions[0].commitLSN >= readers[side].startLSN }
                ?? databases[side].log.count
        }
    }

    /// Reads the next transaction of a side's stream; false when there is none, or the reader waits.
    mutating func read(_ side: Int, from database: SimulatedDatabase) throws -> Bool {
        guard places[side] < database.log.count else { return false }
        let isIdle = pending.allSatisfy(\.isEmpty) && groups.allSatisfy { $0 == nil }
        guard
            readers[side].mayRead(
                barrierLSN: groups[1 - side]?.barrierLSN ?? .zero, opposite: readers[1 - side], isIdle: isIdle
            )
        else { return false }
        let chunk = database.log[places[side]].chunk
        places[side] += 1
        for transaction in try readers[side].read(chunk, tableOf: { [layouts] _ in layouts[side] }) {
            pending[side].append(Pending(transaction: transaction, chunk: chunk))
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
