@testable import ReplicationCore

/// pgoutput messages as bytes, written by hand; rows hold short texts.
enum StreamBytes {
    static func start(_ xid: UInt32, first: Bool) -> [UInt8] {
        [UInt8(ascii: "S")] + big(xid) + [first ? 1 : 0]
    }
    static let stop: [UInt8] = [UInt8(ascii: "E")]

    static func commit(_ xid: UInt32, at lsn: UInt64) -> [UInt8] {
        [UInt8(ascii: "c")] + big(xid) + [0] + big(lsn) + big(lsn + 8) + big(lsn)
    }

    static func abort(_ xid: UInt32, _ subxid: UInt32) -> [UInt8] {
        [UInt8(ascii: "A")] + big(xid) + big(subxid)
    }
    static func begin(_ xid: UInt32, at lsn: UInt64) -> [UInt8] {
        [UInt8(ascii: "B")] + big(lsn) + big(lsn) + big(xid)
    }
    static func commit(at lsn: UInt64) -> [UInt8] {
        [UInt8(ascii: "C"), 0] + big(lsn) + big(lsn + 8) + big(lsn)
    }
    static func origin(_ name: String) -> [UInt8] { [UInt8(ascii: "O")] + big(UInt64(0)) + text(name) }

    /// - Parameter xid: inside a streamed transaction.
    static func relation(_ id: UInt32, _ name: String, columns: [String], xid: UInt32? = nil) -> [UInt8] {
        var bytes = [UInt8(ascii: "R")] + (xid.map { big($0) } ?? []) + big(id) + text("public") + text(name)
        bytes += [UInt8(ascii: "d")] + big(UInt16(columns.count))
        for (index, column) in columns.enumerated() {
            bytes += [index == 0 ? 1 : 0] + text(column) + big(UInt32(25)) + big(UInt32.max)
        }
        return bytes
    }

    static func insert(_ id: UInt32, _ row: [String], xid: UInt32? = nil) -> [UInt8] {
        var bytes =
            [UInt8(ascii: "I")] + (xid.map { big($0) } ?? []) + big(id) + [UInt8(ascii: "N")]
            + big(UInt16(row.count))
        for value in row { bytes += [UInt8(ascii: "t")] + big(UInt32(value.utf8.count)) + Array(value.utf8) }
        return bytes
    }

    static func message(_ prefix: String, _ content: String, xid: UInt32? = nil) -> [UInt8] {
        [UInt8(ascii: "M")] + (xid.map { big($0) } ?? []) + [1] + big(UInt64(7)) + text(prefix)
            + big(UInt32(content.utf8.count)) + Array(content.utf8)
    }

    private static func big(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }

    private static func text(_ value: String) -> [UInt8] { Array(value.utf8) + [0] }
}

/// What a worker does with a stream, without a worker: files are bytes in memory.
struct StreamIntake {
    struct Transaction: Equatable {
        var xid: UInt32
        /// Table, its columns, and the row.
        var rows: [String]
    }

    var streamed: StreamedTransactions
    var assembler: TransactionAssembler
    /// Where set, transactions are handed over while they run.
    var early: EarlyReplay?
    private(set) var earlyCommits = 0
    private(set) var retracted = 0
    var files: [UInt32: [UInt8]] = [:]
    /// Called with what is read back.
    var tamper: ([UInt8]) -> [UInt8] = { $0 }
    private(set) var committed: [Transaction] = []
    private(set) var heartbeats: [Int64] = []
    private(set) var origins: [String] = []
    private(set) var spills = 0
    private(set) var mostBytes = 0
    private var decoder = PGOutputDecoder(protocolVersion: 2)
    private var open: [String] = []

    init(limitBytes: Int = 1 << 20, cutBytes: Int = 4 << 20) {
        streamed = StreamedTransactions(limitBytes: limitBytes)
        assembler = TransactionAssembler(cutBytes: cutBytes)
    }

    mutating func read(_ message: [UInt8]) throws {
        let announcement = assembler.nextAnnouncement()
        let event = try streamed.handle(message, 0..<message.count, announcement: announcement)
        let isDone = try early?.handle(
            event, message, 0..<message.count, reached: LSN(1), sentAt: PostgresTime(microseconds: 0),
            announcement: announcement, assembler: &assembler)
        switch event {
        case .ordinary:
            if try early?.takes(message, 0..<message.count, &assembler) == true { break }
            try assembler.handle(decoder.decode(message, 0..<message.count, into: &assembler.arena))
        case .kept, .began, .added, .changed: break
        case .committed(let commit):
            if isDone == true { earlyCommits += 1 } else { try replay(commit) }
            if commit.hasFile { files[commit.xid] = nil }
        case .ended(let xid, let hasFile):
            if hasFile { files[xid] = nil }
        }
        while let spill = streamed.nextSpill() { write(spill) }
        mostBytes = max(mostBytes, streamed.sizeBytes)
    }

    mutating func read(_ messages: [[UInt8]]) throws { for message in messages { try read(message) } }

    private mutating func write(_ spill: Spill) {
        spills += 1
        var file = spill.isNewFile ? [] : files[spill.xid] ?? []
        for frame in spill.frames {
            let bytes = frame.header + frame.block
            if file.count < frame.offset + bytes.count {
                file += [UInt8](repeating: 0xEE, count: frame.offset + bytes.count - file.count)
            }
            file.replaceSubrange(frame.offset..<(frame.offset + bytes.count), with: bytes)
        }
        files[spill.xid] = file
    }

    private mutating func replay(_ commit: StreamedCommit) throws {
        var replay = StreamReplay(commit)
        try replay.begin(&assembler)
        for piece in commit.pieces {
            switch piece {
            case .memory(let bytes): try replay.feed(bytes, to: &assembler)
            case .file(let place, let length):
                let file = files[commit.xid] ?? []
                let end = min(file.count, place.offset + place.length)
                try replay.feed(
                    frames: tamper(Array(file[min(place.offset, end)..<end])), at: place, length: length,
                    to: &assembler)
            }
            take()
        }
        try replay.end(&assembler)
    }

    mutating func take() {
        while let chunk = assembler.take() { take(chunk) }
    }

    private mutating func take(_ chunk: ChangeChunk) {
        if chunk.retracts {
            open = []
            retracted += 1
        }
        if let beat = chunk.heartbeat { heartbeats.append(beat.sequence) }
        for span in chunk.transactions {
            for change in chunk.changes[span.changes] {
                let relation = chunk.relations[change.relation]
                let columns = relation?.columns.map(\.name).joined(separator: ",") ?? "?"
                open.append(
                    "\(relation?.name.name ?? "?")(\(columns)) \(chunk.words(change.new).joined(separator: ","))"
                )
            }
            guard span.isCommitted else { continue }
            committed.append(Transaction(xid: span.xid, rows: open))
            if let origin = span.origin { origins.append(origin) }
            open = []
        }
    }
}
