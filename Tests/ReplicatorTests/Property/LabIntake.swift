import ReplicationCore

/// Reads a stream as the worker does, with files that are bytes in memory.
struct LabIntake {
    var assembler: TransactionAssembler
    private(set) var streamedCount = 0
    private(set) var spillCount = 0
    private var streamed: StreamedTransactions
    private var decoder = PGOutputDecoder(protocolVersion: 2)
    private var files: [UInt32: [UInt8]] = [:]

    init(limitBytes: Int, cutBytes: Int) {
        streamed = StreamedTransactions(limitBytes: limitBytes)
        assembler = TransactionAssembler(cutBytes: cutBytes)
    }

    /// - Returns: chunks that were full.
    mutating func read(_ message: [UInt8]) throws -> [ChangeChunk] {
        var chunks: [ChangeChunk] = []
        switch try streamed.handle(message, 0..<message.count, announcement: assembler.nextAnnouncement()) {
        case .ordinary:
            try assembler.handle(decoder.decode(message, 0..<message.count, into: &assembler.arena))
        case .committed(let commit): chunks = try replay(commit)
        case .rolledBack(let xid, _): files[xid] = nil
        case .kept: break
        }
        while let spill = streamed.nextSpill() {
            spillCount += 1
            for frame in spill.frames {
                let kept = (files[spill.xid] ?? []).prefix(frame.offset)
                files[spill.xid] = kept + frame.header + frame.block
            }
        }
        return chunks
    }

    private mutating func replay(_ commit: StreamedCommit) throws -> [ChangeChunk] {
        streamedCount += 1
        var chunks: [ChangeChunk] = []
        var replay = StreamReplay(commit)
        try replay.begin(&assembler)
        for piece in commit.pieces {
            switch piece {
            case .memory(let bytes): try replay.feed(bytes, to: &assembler)
            case .file(let place, let length):
                let frames = Array((files[commit.xid] ?? []).dropFirst(place.offset).prefix(place.length))
                try replay.feed(frames: frames, at: place, length: length, to: &assembler)
            }
            if let chunk = assembler.take() { chunks.append(chunk) }
        }
        try replay.end(&assembler)
        files[commit.xid] = nil
        return chunks
    }
}
