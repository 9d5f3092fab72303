import ReplicationCore
import Synchronization

/// Chunks of one side's stream that wait in a file.
final class SplitSpilled: Sendable {
    fileprivate struct Part: Sendable {
        var relations: RelationHistory
        var tables: [Int: SplitTable]
    }

    fileprivate let number: UInt32
    fileprivate let place: SpillPlace
    fileprivate let parts: [Part]

    fileprivate init(number: UInt32, place: SpillPlace, parts: [Part]) {
        self.number = number
        self.place = place
        self.parts = parts
    }
}

/// The files of one life of a split: what was read and can't be applied yet, and what each side did itself.
final class SplitFiles: Sendable {
    let folder: SpillFolder
    private let lastNumber = Mutex<UInt32>(0)

    init(_ folder: SpillFolder) { self.folder = folder }

    // MARK: chunks

    /// - Throws: `SpillError`.
    func write(_ chunks: [(chunk: SplitChunk, transactions: [SplitTransaction])]) async throws -> SplitSpilled {
        let number = lastNumber.withLock { last in
            last += 1
            return last
        }
        let blocks = chunks.map { SplitChunkCoding.encode($0.chunk.chunk, $0.transactions) }
        let (spill, place) = Spill.whole(SplitChunkCoding.join(blocks), number: number)
        try await folder.write(spill)
        let parts = chunks.map { SplitSpilled.Part(relations: $0.chunk.chunk.relations, tables: $0.chunk.tables) }
        return SplitSpilled(number: number, place: place, parts: parts)
    }

    /// What is in a file, which is then removed.
    ///
    /// - Throws: `SpillError`.
    func take(_ spilled: SplitSpilled) async throws -> [(SplitChunk, [SplitTransaction])] {
        let bytes = try await folder.read(spilled.place, of: spilled.number)
        do {
            let ranges = try SplitChunkCoding.split(bytes, try SpillFrame.whole(bytes, number: spilled.number))
            guard ranges.count == spilled.parts.count else { throw SpillFrame.Damage.tooShort }
            let chunks = try zip(ranges, spilled.parts).map { range, part in
                let (chunk, transactions) = try SplitChunkCoding.decode(bytes, range, relations: part.relations) { part.tables[$0] }
                return (SplitChunk(chunk, tables: part.tables), transactions)
            }
            await remove(spilled)
            return chunks
        } catch let damage as SpillFrame.Damage {
            throw SpillError.damaged(file: folder.name(spilled.number), what: "\(damage)")
        }
    }

    func remove(_ spilled: SplitSpilled) async { await folder.remove(spilled.number) }

    // MARK: histories

    func history(of side: Side) -> HistoryStorage {
        let folder = folder
        @Sendable func name(_ run: Int) -> String { "history-\(side.rawValue)-\(run)" }
        return HistoryStorage(
            write: { run, offset, bytes in try folder.writeNow(bytes, at: offset, to: name(run)) },
            read: { run, range in try folder.readNow(range, of: name(run)) },
            remove: { run in folder.removeNow(name(run)) })
    }
}
