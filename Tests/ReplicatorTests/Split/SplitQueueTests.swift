@testable import ReplicationCore
@testable import Replicator
import Testing

/// What waits to be applied, in memory and in files.
@Suite struct SplitQueueTests {
    private static let chunkBytes = 300_000
    private let files: SplitFiles
    private var queue = SplitQueue(limitBytes: 1 << 20, stopBytes: .max)

    init() async throws { files = SplitFiles(try await SpillFolder.open(base: nil, direction: "queue")) }

    /// Transactions that commit at these positions, one a chunk.
    private mutating func append(_ positions: ClosedRange<UInt64>) {
        for position in positions {
            var chunk = ChangeChunk()
            chunk.arena.bytes = [UInt8](repeating: 7, count: Self.chunkBytes)
            chunk.transactions = [
                TransactionSpan(
                    xid: 1, commitLSN: LSN(position), endLSN: LSN(position + 1), commitTime: PostgresTime(microseconds: 0),
                    origin: nil, changes: 0..<0)
            ]
            let transaction = SplitTransaction(
                span: 0, commitLSN: LSN(position), commitTime: PostgresTime(microseconds: 0),
                effectiveTime: PostgresTime(microseconds: 0), context: CausalContext(lsn: .zero), operations: [],
                progress: SplitProgress(appliedLSN: LSN(position), context: CausalContext(lsn: .zero)))
            queue.append([transaction], of: SplitChunk(chunk, tables: [:]))
        }
    }

    private mutating func spill() async throws {
        while let spill = queue.nextSpill() {
            let isReplaced = queue.replace(spill, by: try await files.write(spill.chunks))
            try #require(isReplaced)
        }
    }

    /// Takes groups until a file has to be read, or nothing is left.
    private mutating func take(into taken: inout [UInt64]) throws -> SplitSpilled? {
        while true {
            switch try queue.next(GroupLimits(bytes: 1)) {
            case .group(let group): taken += group.transactions.map(\.commitLSN.rawValue)
            case .load(let spilled): return spilled
            case .wait: return nil
            }
        }
    }

    /// What comes back from a file is numbered anew, and so later than what came while it was there.
    @Test mutating func whatCameBackFromAFileGoesThereAgainWithWhatCameMeanwhile() async throws {
        append(1...8)
        try await spill()
        append(9...10)
        var taken: [UInt64] = []
        let first = try #require(try take(into: &taken))
        queue.expand(first, to: try await files.take(first))
        append(11...12)
        try await spill()
        #expect(queue.heldBytes < 2 << 20)
        while let spilled = try take(into: &taken) { queue.expand(spilled, to: try await files.take(spilled)) }
        #expect(taken == Array(1...12))
        #expect(queue.isEmpty && queue.heldBytes == 0)
    }
}
