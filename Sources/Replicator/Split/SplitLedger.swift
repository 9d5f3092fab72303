import ReplicationCore
import Synchronization

/// What the two directions of a split share while their streams last: both readers, what waits to be applied, and how
/// far each side's changes are on the other side's disk.
///
/// Intakes bring chunks in, appliers take groups out. An applier that waits for its barrier is waited for by nobody: the
/// intake of the side that it writes then reads on, whatever the bounds say.
final class SplitLedger: Sendable {
    private struct Direction {
        var reader: SplitReader
        /// From this side, not yet applied.
        var pending: [SplitItem] = []
        var pendingBytes = 0
        var isApplying = false
        /// What appliers wait for on this side.
        var barriers: [LSN] = []
        var barrierLSN: LSN { barriers.max() ?? .zero }
        /// What the direction that reads this side waits to see read of the other one within the bounds, before it asks
        /// for more than these allow, in bytes.
        var approachBytes: UInt64?
        /// What came after the bound is not kept; it is read again after a restart.
        var isSkimming = false
        /// Committed on the other side, not known to be on its disk.
        var committed: [(note: LSN, progress: SplitProgress)] = []
        var applied: SplitProgress
        var durable: SplitProgress
    }

    private struct Signals {
        let readable = Signal()
        let arrival = Signal()
        /// A signal has one waiter: by the side that the waiting applier reads.
        let passage = SidePair { _ in Signal() }
    }

    private let state: Mutex<SidePair<Direction>>
    private let isStopped = Mutex(false)
    private let signals: SidePair<Signals>
    private let pendingLimitBytes: Int
    private let stopBytes: Int

    init(readers: SidePair<SplitReader>, progress: SidePair<SplitProgress>, settings: SplitSettings) {
        state = Mutex(
            SidePair { Direction(reader: readers[$0], applied: progress[$0], durable: progress[$0]) })
        signals = SidePair { _ in Signals() }
        pendingLimitBytes = settings.pendingBytes
        stopBytes = settings.stopBytes
    }

    // MARK: reading

    /// Waits until the next chunk of a side may be read.
    func waitUntilReadable(_ side: Side) async throws {
        while !state.withLock({ Self.mayRead(side, $0, limitBytes: pendingLimitBytes) }) {
            await signals[side].readable.wait()
            try Task.checkCancellation()
        }
    }

    private static func mayRead(_ side: Side, _ state: SidePair<Direction>, limitBytes: Int) -> Bool {
        let (mine, opposite) = (state[side], state[side.opposite])
        if mine.reader.isInTransaction || mine.reader.readLSN < mine.barrierLSN { return true }
        if mine.isSkimming || mine.pendingBytes >= limitBytes { return false }
        let isIdle = mine.pending.isEmpty && opposite.pending.isEmpty && !mine.isApplying && !opposite.isApplying
        return mine.reader.mayRead(barrierLSN: mine.barrierLSN, opposite: opposite.reader, isIdle: isIdle)
    }

    /// Whether changes of a side wait to be applied, and nobody waits for the side to be read.
    func isBehind(_ side: Side) -> Bool {
        state.withLock { !$0[side].pending.isEmpty && $0[side].barrierLSN == .zero }
    }

    /// Reads a chunk of a side.
    ///
    /// - Parameter sign: what in the chunk makes its position worth recording.
    /// - Throws: `SplitError` for what a split cannot carry, `SplitOverflow` for what does not fit in memory.
    func read(_ chunk: SplitChunk, of side: Side, sign: SplitSign?) throws {
        try state.withLock { state in
            let transactions = try state[side].reader.read(chunk.chunk) { chunk.tables[$0] }
            try Self.keep(transactions, chunk, sign, &state[side], stopBytes: stopBytes)
            guard state[side].reader.history.sizeBytes < stopBytes else { throw SplitOverflow.history(side) }
            Self.noteDurable(&state[side.opposite], seen: state[side].reader)
        }
        signals[side].arrival.notify()
        for reading in Side.allCases { signals[side].passage[reading].notify() }
        signals[side].readable.notify()
        signals[side.opposite].readable.notify()
    }

    private static func keep(
        _ transactions: [SplitTransaction], _ chunk: SplitChunk, _ sign: SplitSign?, _ mine: inout Direction, stopBytes: Int
    ) throws {
        if mine.isSkimming { return }
        for (index, transaction) in transactions.enumerated() {
            let isLast = index == transactions.count - 1
            mine.pending.append(
                SplitItem(
                    content: .transaction(transaction), chunk: chunk, sizeBytes: isLast ? chunk.chunk.sizeBytes : 0,
                    endsGroup: chunk.endsReferenced(transaction)))
        }
        if !transactions.isEmpty { mine.pendingBytes += chunk.chunk.sizeBytes }
        // What is read again for the history alone lies behind what is applied, and progress never goes back: what follows
        // would be applied twice.
        if let sign, let position = mine.reader.position, position.appliedLSN >= mine.applied.appliedLSN {
            let empty = SplitChunk(ChangeChunk(), tables: [:])
            mine.pending.append(SplitItem(content: .position(position, sign), chunk: empty, sizeBytes: 0))
        }
        guard mine.pendingBytes >= stopBytes else { return }
        // Whole transactions can still be applied; what they leave behind is read again.
        guard let end = mine.pending.lastIndex(where: { $0.progress != nil }) else {
            throw SplitOverflow.transaction(transactions.last?.commitLSN ?? .zero)
        }
        mine.pending.removeSubrange((end + 1)...)
        mine.pendingBytes = mine.pending.reduce(0) { $0 + $1.sizeBytes }
        mine.isSkimming = true
    }

    /// A reader gets only what is on its server's disk: so what it has seen of the other direction is.
    private static func noteDurable(_ direction: inout Direction, seen reader: SplitReader) {
        guard let seen = reader.position?.context.lsn else { return }
        while let first = direction.committed.first, first.note <= seen {
            direction.durable = first.progress
            direction.committed.removeFirst()
        }
    }

    // MARK: applying

    /// Whole transactions from a side that wait, up to the limits but at least one; `nil` once it was stopped.
    func nextGroup(from side: Side, limits: GroupLimits) async throws -> SplitGroup? {
        while true {
            let isStopped = isStopped.withLock { $0 }
            let group = try state.withLock { state in
                state[side].isApplying = false
                let group = isStopped ? nil : Self.take(&state[side], limits)
                state[side].isApplying = group != nil
                if group == nil, state[side].isSkimming { throw SplitRestart.backlog(side) }
                return group
            }
            signals[side].readable.notify()
            signals[side.opposite].readable.notify()
            if let group { return group }
            if isStopped { return nil }
            await signals[side].arrival.wait()
            try Task.checkCancellation()
        }
    }

    /// The same without waiting; `nil` when nothing is ready.
    func nextGroupNow(from side: Side, limits: GroupLimits) -> SplitGroup? {
        if isStopped.withLock({ $0 }) { return nil }
        let group = state.withLock { Self.take(&$0[side], limits) }
        if group != nil { signals[side].readable.notify() }
        return group
    }

    private static func take(_ direction: inout Direction, _ limits: GroupLimits) -> SplitGroup? {
        var end = 0
        var sizeBytes = 0
        var changes = 0
        var isLast = false
        for (index, item) in direction.pending.enumerated() {
            sizeBytes += item.sizeBytes
            changes += item.changeCount
            if end > 0, sizeBytes > limits.bytes || changes > limits.changes { break }
            isLast = isLast || item.endsGroup
            guard item.progress != nil else { continue }
            end = index + 1
            if isLast { break }
        }
        guard end > 0 else { return nil }
        let items = Array(direction.pending[..<end])
        direction.pending.removeSubrange(..<end)
        direction.pendingBytes -= items.reduce(0) { $0 + $1.sizeBytes }
        return SplitGroup(items)
    }

    /// Waits until little is left to be read of a side: its backlog is read as it is applied, not ahead of it into memory.
    /// Should both directions wait so for each other, the one with less before it goes on.
    func waitUntilNear(_ lsn: LSN, on side: Side, reading: Side) async throws {
        // What an applier reads itself waits for it.
        if side == reading { return }
        defer { state.withLock { $0[reading].approachBytes = nil } }
        var isFirst = true
        while true {
            let mayGoOn = state.withLock { state -> Bool in
                let unread = lsn.lagBytes(behind: state[side].reader.readLSN)
                state[reading].approachBytes = unread
                // A full history is trimmed by the very direction that waits here.
                if unread <= pendingLimitBytes || state[side].reader.history.isFull { return true }
                guard let other = state[reading.opposite].approachBytes else { return false }
                return (unread, reading.rawValue) < (other, reading.opposite.rawValue)
            }
            if mayGoOn { return }
            if isFirst { signals[reading].passage[reading.opposite].notify() }
            isFirst = false
            await signals[side].passage[reading].wait()
            try Task.checkCancellation()
        }
    }

    /// Waits until a side has been read past a position.
    ///
    /// - Parameter reading: the side that the waiting applier reads.
    func waitForPassage(of lsn: LSN, on side: Side, reading: Side) async throws {
        // The position is that of the message; its commit lies behind it.
        let barrier = LSN(lsn.rawValue + 1)
        state.withLock { $0[side].barriers.append(barrier) }
        signals[side].readable.notify()
        defer { state.withLock { state in state[side].barriers.firstIndex(of: barrier).map { _ = state[side].barriers.remove(at: $0) } } }
        while state.withLock({ $0[side].reader.readLSN <= lsn }) {
            await signals[side].passage[reading].wait()
            try Task.checkCancellation()
        }
    }

    /// What a side did itself lately, and how far that is known. Nothing changes while `body` looks.
    func withHistory<Result>(of side: Side, _ body: (LocalHistory, LSN) throws -> Result) rethrows -> Result {
        try state.withLock { try body($0[side].reader.history, $0[side].reader.readLSN) }
    }

    /// The group's transaction has committed on the other side.
    func noteCommit(_ progress: SplitProgress, note: SplitNote?, from side: Side) {
        state.withLock { state in
            state[side].applied = progress
            if case .applied(let context)? = note { state[side].committed.append((context.lsn, progress)) }
            state[side.opposite].reader.history.trim(to: progress.context.lsn)
        }
        signals[side].readable.notify()
        signals[side.opposite].readable.notify()
    }

    /// How far a side's changes are applied, and how far its slot may be confirmed.
    func positions(from side: Side) -> (applied: LSN, confirmable: LSN) {
        state.withLock {
            ($0[side].applied.appliedLSN, $0[side].durable.confirmableLSN(opposite: $0[side.opposite].durable))
        }
    }

    /// No further group is given out.
    func stop() {
        isStopped.withLock { $0 = true }
        for side in Side.allCases { signals[side].arrival.notify() }
    }
}

/// What does not fit in the memory that is configured.
enum SplitOverflow: Error, Equatable {
    /// One transaction, by its commit.
    case transaction(LSN)
    /// What a side wrote itself and the other has not seen.
    case history(Side)
}
