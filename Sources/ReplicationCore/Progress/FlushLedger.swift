/// Which applied source positions are durable on the target: it commits asynchronously, and its own log reaches the disk
/// a little later.
///
/// Only what this says is durable may be acknowledged to the source.
public struct FlushLedger: Sendable {
    /// Commits whose place in the target's log is not flushed yet, oldest first.
    private var pending: [(targetLSN: LSN, sourceLSN: LSN)] = []
    /// The last source position that a crash of the target cannot undo.
    public private(set) var durableLSN: LSN

    public init(durableLSN: LSN) { self.durableLSN = durableLSN }

    public var isSettled: Bool { pending.isEmpty }

    /// The target has committed everything up to `sourceLSN`.
    ///
    /// - Parameter targetLSN: a position in the target's log at or after the end of that commit.
    public mutating func handleCommit(sourceLSN: LSN, targetLSN: LSN) {
        // What is flushed with the newest is flushed with the one before, if that stands no later.
        while let last = pending.last, last.targetLSN >= targetLSN { pending.removeLast() }
        pending.append((targetLSN, sourceLSN))
    }

    /// The target's log is on disk up to `targetLSN`.
    public mutating func handleFlush(targetLSN: LSN) {
        guard let count = pending.lastIndex(where: { $0.targetLSN <= targetLSN }).map({ $0 + 1 }) else { return }
        durableLSN = max(durableLSN, pending[count - 1].sourceLSN)
        pending.removeFirst(count)
    }

    /// Everything that was committed is on disk.
    ///
    /// - Parameter sourceLSN: the last of it.
    public mutating func handleFlushOfAll(upTo sourceLSN: LSN) {
        pending.removeAll()
        durableLSN = max(durableLSN, sourceLSN)
    }
}
