/// Feeds a streamed transaction that committed, or was prepared, to the assembler as if it came now, unstreamed.
///
/// Use: `begin`, then `feed` for each piece in order, then `end`. In between, take chunks from the assembler.
public struct StreamReplay: Sendable {
    private let commit: StreamedCommit
    /// Its messages carry transaction ids.
    private var decoder = PGOutputDecoder(protocolVersion: 2, isInStream: true)

    public init(_ commit: StreamedCommit) { self.commit = commit }

    public func begin(_ assembler: inout TransactionAssembler) throws(StreamError) {
        if let gid = commit.preparedAs {
            try assembler.handle(
                .beginPrepare(
                    prepareLSN: commit.commitLSN, endLSN: commit.endLSN, prepareTime: commit.commitTime, xid: commit.xid,
                    gid: gid))
        } else {
            try assembler.handle(
                .begin(finalLSN: commit.commitLSN, commitTime: commit.commitTime, xid: commit.xid))
        }
        if let origin = commit.origin { try assembler.handle(.origin(originLSN: .zero, name: origin)) }
        assembler.beginOwnRelations()
    }

    /// Takes a piece that was kept in memory.
    public mutating func feed(_ bytes: [UInt8], to assembler: inout TransactionAssembler) throws {
        try feed(bytes, 0..<bytes.count, to: &assembler)
    }

    /// Takes a stretch of frames as it was read from the file.
    ///
    /// - Throws: `SpillFrame.Damage` when it is not what was written.
    public mutating func feed(
        frames: [UInt8], at place: SpillPlace, length: Int, to assembler: inout TransactionAssembler
    ) throws {
        guard frames.count == place.length else { throw SpillFrame.Damage.tooShort }
        var (offset, sequence, left) = (0, place.sequence, length)
        while left > 0 {
            let block = try SpillFrame.block(frames, at: offset, xid: commit.xid, sequence: sequence)
            let counted = block.prefix(left)
            try feed(frames, counted, to: &assembler)
            left -= counted.count
            offset = block.upperBound
            sequence &+= 1
        }
    }

    public func end(_ assembler: inout TransactionAssembler) throws(StreamError) {
        assembler.endOwnRelations()
        if let gid = commit.preparedAs {
            return try assembler.handle(
                .prepare(
                    prepareLSN: commit.commitLSN, endLSN: commit.endLSN, prepareTime: commit.commitTime, xid: commit.xid,
                    gid: gid))
        }
        try assembler.handle(
            .commit(commitLSN: commit.commitLSN, endLSN: commit.endLSN, commitTime: commit.commitTime))
    }

    private mutating func feed(
        _ bytes: [UInt8], _ range: Range<Int>, to assembler: inout TransactionAssembler
    ) throws {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let field = Self.number(bytes, offset, UInt32.self)
            offset += 4
            var announcement: UInt64?
            if field & StreamedTransaction.announcementFlag != 0 {
                announcement = Self.number(bytes, offset, UInt64.self)
                offset += 8
            }
            let end = offset + Int(field & ~StreamedTransaction.announcementFlag)
            let message = try decoder.decode(bytes, offset..<end, into: &assembler.arena)
            if let announcement, case .relation(let relation, _) = message {
                assembler.record(relation, announcement: announcement)
            } else {
                try assembler.handle(message)
            }
            offset = end
        }
    }

    private static func number<Number: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, _: Number.Type)
        -> Number
    {
        precondition(offset + MemoryLayout<Number>.size <= bytes.count)
        return bytes.withUnsafeBytes {
            Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self))
        }
    }
}
