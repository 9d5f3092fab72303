import ReplicationCore

/// Reads a stream as the worker does, with files that are bytes in memory.
struct LabIntake {
    var assembler: TransactionAssembler
    private(set) var streamedCount = 0
    private(set) var spillCount = 0
    private(set) var earlyCount = 0
    private var early: EarlyReplay?
    private var reached = LSN.zero
    private var streamed: StreamedTransactions
    private var decoder = PGOutputDecoder(protocolVersion: 2)
    private var files: [UInt32: [UInt8]] = [:]

    /// - Parameter earlyFrom: from where on transactions come before their commit; `nil` for never.
    init(limitBytes: Int, cutBytes: Int, earlyFrom: LSN?) {
        early = earlyFrom.map { EarlyReplay(fromLSN: $0) }
        streamed = StreamedTransactions(limitBytes: limitBytes)
        assembler = TransactionAssembler(cutBytes: cutBytes)
    }

    /// - Returns: chunks that were full.
    mutating func read(_ message: [UInt8], at lsn: LSN) throws -> [ChangeChunk] {
        var chunks: [ChangeChunk] = []
        reached = max(reached, lsn)
        let announcement = assembler.nextAnnouncement()
        let event = try streamed.handle(message, 0..<message.count, announcement: announcement)
        let isDone = try early?.handle(
            event, message, 0..<message.count, reached: reached, sentAt: PostgresTime(microseconds: 0),
            announcement: announcement, assembler: &assembler)
        switch event {
        case .ordinary:
            if try early?.takes(message, 0..<message.count, &assembler) == true { break }
            try assembler.handle(decoder.decode(message, 0..<message.count, into: &assembler.arena))
        case .committed(let commit):
            if isDone == true { earlyCount += 1 } else { chunks += try replay(commit) }
        case .ended(let xid, _): files[xid] = nil
        case .kept, .began, .added, .changed: break
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
            while let chunk = assembler.take() { chunks.append(chunk) }
        }
        try replay.end(&assembler)
        files[commit.xid] = nil
        return chunks
    }
}
