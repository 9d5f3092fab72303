/// Decodes `pgoutput` messages of protocol versions 1 to 4.
///
/// It is a state machine with one state: inside a streamed transaction (between Stream Start and Stream Stop) change
/// messages carry a transaction id. Row values go into the caller's arena in one piece per tuple; on an error the
/// arena is as it was before.
public struct PGOutputDecoder: Sendable {
    /// What comes at least before a row's columns: message kind, relation, kind of the row, number of columns.
    public static let rowHeadBytes = 8

    /// The `proto_version` that was asked for.
    public let protocolVersion: Int
    /// Whether `streaming 'parallel'` was asked for: stream aborts then carry a position and a time.
    public let isParallelStreaming: Bool
    public private(set) var isInStream = false

    public init(protocolVersion: Int, isParallelStreaming: Bool = false) {
        self.protocolVersion = protocolVersion
        self.isParallelStreaming = isParallelStreaming
    }

    /// For messages that were kept from inside a streamed transaction.
    init(protocolVersion: Int, isInStream: Bool) {
        self.init(protocolVersion: protocolVersion)
        self.isInStream = isInStream
    }

    /// Decodes the message that fills `range` of `bytes`.
    public mutating func decode(
        _ bytes: [UInt8], _ range: Range<Int>, into arena: inout ChangeArena
    ) throws(WireError) -> PGOutputMessage {
        guard range.lowerBound >= 0, range.upperBound <= bytes.count, !range.isEmpty else {
            throw .truncated(message: 0, offset: range.lowerBound)
        }
        let (byteCount, cellCount) = (arena.bytes.count, arena.cells.count)
        let wasInStream = isInStream
        let decoded = bytes.withUnsafeBytes { buffer -> Result<PGOutputMessage, WireError> in
            Result { () throws(WireError) in
                var reader = WireReader(buffer, range, message: buffer[range.lowerBound])
                let message = try decode(&reader, &arena)
                try reader.finish()
                return message
            }
        }
        if case .failure = decoded {
            arena.bytes.removeSubrange(byteCount...)
            arena.cells.removeSubrange(cellCount...)
            isInStream = wasInStream
        }
        return try decoded.get()
    }

    private mutating func decode(
        _ reader: inout WireReader, _ arena: inout ChangeArena
    ) throws(WireError) -> PGOutputMessage {
        switch try reader.byte() {
        case UInt8(ascii: "I"):
            let xid = try streamedXID(&reader)
            let relation = try reader.uint32()
            try expect("N", "new row", &reader)
            return .insert(relation: relation, new: try tuple(&reader, &arena), xid: xid)
        case UInt8(ascii: "U"):
            return try update(&reader, &arena)
        case UInt8(ascii: "D"):
            let xid = try streamedXID(&reader)
            let relation = try reader.uint32()
            let kind = try oldKind(try reader.byte(), reader)
            return .delete(relation: relation, old: OldTuple(kind: kind, tuple: try tuple(&reader, &arena)), xid: xid)
        case UInt8(ascii: "B"):
            return .begin(finalLSN: try reader.lsn(), commitTime: try reader.time(), xid: try reader.uint32())
        case UInt8(ascii: "C"):
            try flags(&reader)
            return .commit(commitLSN: try reader.lsn(), endLSN: try reader.lsn(), commitTime: try reader.time())
        case UInt8(ascii: "O"):
            return .origin(originLSN: try reader.lsn(), name: try reader.string())
        case UInt8(ascii: "R"):
            return try relation(&reader)
        case UInt8(ascii: "Y"):
            let xid = try streamedXID(&reader)
            return .type(
                oid: try reader.uint32(), schema: try schema(&reader), name: try reader.string(), xid: xid)
        case UInt8(ascii: "T"):
            return try truncate(&reader)
        case UInt8(ascii: "M"):
            return try logicalMessage(&reader)
        case let kind:
            return try streamOrPrepared(kind, &reader)
        }
    }

    private mutating func streamOrPrepared(
        _ kind: UInt8, _ reader: inout WireReader
    ) throws(WireError) -> PGOutputMessage {
        switch kind {
        case UInt8(ascii: "S"):
            let (xid, first) = (try reader.uint32(), try reader.byte())
            guard first <= 1 else { throw .badField(message: kind, what: "segment flag") }
            isInStream = true
            return .streamStart(xid: xid, isFirstSegment: first == 1)
        case UInt8(ascii: "E"):
            isInStream = false
            return .streamStop
        case UInt8(ascii: "c"):
            let xid = try reader.uint32()
            try flags(&reader)
            return .streamCommit(
                xid: xid, commitLSN: try reader.lsn(), endLSN: try reader.lsn(), commitTime: try reader.time())
        case UInt8(ascii: "A"):
            let (xid, subxid) = (try reader.uint32(), try reader.uint32())
            guard isParallelStreaming else {
                return .streamAbort(xid: xid, subxid: subxid, abortLSN: nil, abortTime: nil)
            }
            return .streamAbort(xid: xid, subxid: subxid, abortLSN: try reader.lsn(), abortTime: try reader.time())
        case UInt8(ascii: "b"):
            let prepared = try prepared(&reader)
            return .beginPrepare(
                prepareLSN: prepared.lsn, endLSN: prepared.end, prepareTime: prepared.time, xid: prepared.xid,
                gid: prepared.gid)
        case UInt8(ascii: "P"):
            try flags(&reader)
            let prepared = try prepared(&reader)
            return .prepare(
                prepareLSN: prepared.lsn, endLSN: prepared.end, prepareTime: prepared.time, xid: prepared.xid,
                gid: prepared.gid)
        case UInt8(ascii: "K"):
            try flags(&reader)
            let committed = try prepared(&reader)
            return .commitPrepared(
                commitLSN: committed.lsn, endLSN: committed.end, commitTime: committed.time, xid: committed.xid,
                gid: committed.gid)
        case UInt8(ascii: "r"):
            try flags(&reader)
            return .rollbackPrepared(
                prepareEndLSN: try reader.lsn(), rollbackEndLSN: try reader.lsn(), prepareTime: try reader.time(),
                rollbackTime: try reader.time(), xid: try reader.uint32(), gid: try reader.string())
        case UInt8(ascii: "p"):
            try flags(&reader)
            let prepared = try prepared(&reader)
            return .streamPrepare(
                prepareLSN: prepared.lsn, endLSN: prepared.end, prepareTime: prepared.time, xid: prepared.xid,
                gid: prepared.gid)
        default:
            throw .unknownMessage(kind)
        }
    }

    // MARK: rows

    private func update(_ reader: inout WireReader, _ arena: inout ChangeArena) throws(WireError) -> PGOutputMessage {
        let xid = try streamedXID(&reader)
        let relation = try reader.uint32()
        var marker = try reader.byte()
        var old: OldTuple?
        if marker != UInt8(ascii: "N") {
            let kind = try oldKind(marker, reader)
            old = OldTuple(kind: kind, tuple: try tuple(&reader, &arena))
            marker = try reader.byte()
        }
        guard marker == UInt8(ascii: "N") else { throw .badField(message: reader.message, what: "new row") }
        return .update(relation: relation, old: old, new: try tuple(&reader, &arena), xid: xid)
    }

    private func oldKind(_ marker: UInt8, _ reader: WireReader) throws(WireError) -> OldTuple.Kind {
        switch marker {
        case UInt8(ascii: "K"): .key
        case UInt8(ascii: "O"): .full
        default: throw .badField(message: reader.message, what: "old row")
        }
    }

    /// Two passes over one tuple: lay out the cells, then copy all its bytes at once.
    private func tuple(
        _ reader: inout WireReader, _ arena: inout ChangeArena
    ) throws(WireError) -> TupleReference {
        let count = Int(try reader.uint16())
        let first = arena.cells.count
        let start = reader.offset
        let base = arena.bytes.count - start
        var hasUnchanged = false
        for _ in 0..<count {
            switch try reader.byte() {
            case UInt8(ascii: "n"):
                arena.cells.append(Cell(kind: .null))
            case UInt8(ascii: "u"):
                arena.cells.append(Cell(kind: .unchanged))
                hasUnchanged = true
            case UInt8(ascii: "t"):
                try value(.text, base, &reader, &arena)
            case UInt8(ascii: "b"):
                try value(.binary, base, &reader, &arena)
            case let other:
                throw .unknownCellKind(other)
            }
        }
        arena.bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: reader.bytes[start..<reader.offset]))
        return TupleReference(firstCell: first, count: count, hasUnchanged: hasUnchanged)
    }

    @inline(__always)
    private func value(
        _ kind: Cell.Kind, _ base: Int, _ reader: inout WireReader, _ arena: inout ChangeArena
    ) throws(WireError) {
        let length = try reader.int32()
        guard length >= 0 else { throw .badLength(length) }
        arena.cells.append(Cell(kind: kind, offset: base + reader.offset, length: length))
        try reader.skip(Int(length))
    }

    // MARK: the rest

    private func relation(_ reader: inout WireReader) throws(WireError) -> PGOutputMessage {
        let xid = try streamedXID(&reader)
        let id = try reader.uint32()
        let name = QualifiedName(schema: try schema(&reader), name: try reader.string())
        let letter = String(UnicodeScalar(try reader.byte()))
        guard let identity = TableDescription.ReplicaIdentity(rawValue: letter) else {
            throw .badField(message: reader.message, what: "replica identity")
        }
        var columns: [RelationMessage.Column] = []
        for _ in 0..<Int(try reader.uint16()) {
            let flags = try reader.byte()
            columns.append(
                RelationMessage.Column(
                    isKey: flags & 1 != 0, name: try reader.string(), typeOID: try reader.uint32(),
                    typeModifier: try reader.int32()))
        }
        return .relation(
            RelationMessage(id: id, name: name, replicaIdentity: identity, columns: columns), xid: xid)
    }

    private func truncate(_ reader: inout WireReader) throws(WireError) -> PGOutputMessage {
        let xid = try streamedXID(&reader)
        let count = try reader.int32()
        let options = try reader.byte()
        guard count >= 0, Int(count) * 4 <= reader.remaining else { throw .badLength(count) }
        var relations: [UInt32] = []
        for _ in 0..<count { relations.append(try reader.uint32()) }
        return .truncate(
            relations: relations, cascade: options & 1 != 0, restartIdentity: options & 2 != 0, xid: xid)
    }

    private func logicalMessage(_ reader: inout WireReader) throws(WireError) -> PGOutputMessage {
        let xid = try streamedXID(&reader)
        let flags = try reader.byte()
        let lsn = try reader.lsn()
        let prefix = try reader.string()
        let length = try reader.int32()
        guard length >= 0 else { throw .badLength(length) }
        let start = reader.offset
        try reader.skip(Int(length))
        return .message(
            transactional: flags & 1 != 0, lsn: lsn, prefix: prefix,
            content: Array(reader.bytes[start..<reader.offset]), xid: xid)
    }

    private func prepared(
        _ reader: inout WireReader
    ) throws(WireError) -> (lsn: LSN, end: LSN, time: PostgresTime, xid: UInt32, gid: String) {
        (try reader.lsn(), try reader.lsn(), try reader.time(), try reader.uint32(), try reader.string())
    }

    private func streamedXID(_ reader: inout WireReader) throws(WireError) -> UInt32? {
        isInStream ? try reader.uint32() : nil
    }

    /// The system catalog's schema is sent as an empty string.
    private func schema(_ reader: inout WireReader) throws(WireError) -> String {
        let name = try reader.string()
        return name.isEmpty ? "pg_catalog" : name
    }

    private func flags(_ reader: inout WireReader) throws(WireError) {
        guard try reader.byte() == 0 else { throw .badField(message: reader.message, what: "flags") }
    }

    private func expect(_ marker: Unicode.Scalar, _ what: String, _ reader: inout WireReader) throws(WireError) {
        guard try reader.byte() == UInt8(ascii: marker) else { throw .badField(message: reader.message, what: what) }
    }
}
