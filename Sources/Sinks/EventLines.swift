import ReplicationCore

/// Turns the messages of a stream into events: one line of JSON for each change.
///
/// Use: decode each message into `arena`, pass it to `handle`, and now and then `takeBytes`. A relation message goes to
/// `announce`, with what the catalog knows of the table.
public struct EventLines: Sendable {
    /// Where the decoder puts values; emptied with every message.
    public var arena = ChangeArena()
    public private(set) var eventCount = 0
    /// Everything that committed before is in lines.
    public private(set) var position = LSN.zero
    public private(set) var isInTransaction = false
    /// Bytes that wait to be taken.
    public var waitingBytes: Int { lines.count }

    private let includes: @Sendable (QualifiedName) -> Bool
    private let limit: Int
    private var lines: [UInt8] = []
    private var shapes: [UInt32: RowShape] = [:]
    /// Tables of the publication that nobody asked for.
    private var ignored: Set<UInt32> = []
    /// `","commitLsn":…,"xid":7`, the same for all changes of a transaction.
    private var transaction: [UInt8] = []

    /// - Parameters:
    ///   - limit: how many events there may be; later changes are passed over.
    ///   - includes: which tables are wanted.
    public init(limit: Int = .max, includes: @escaping @Sendable (QualifiedName) -> Bool = { _ in true }) {
        self.limit = limit
        self.includes = includes
    }

    public var isAtLimit: Bool { eventCount >= limit }

    /// What has been written since the last time: whole lines.
    public mutating func takeBytes() -> [UInt8] {
        defer { lines = [] }
        return lines
    }

    /// Whether the stream's definition is not enough: it does not know the types under domains, nor the primary key of
    /// a table whose replica identity is the whole row.
    public func wantsDescription(_ relation: RelationMessage) -> Bool {
        includes(relation.name)
            && (relation.replicaIdentity == .full || relation.columns.contains { $0.typeOID >= Self.firstUserOID })
    }

    public mutating func announce(_ relation: RelationMessage, description: TableDescription?) {
        if includes(relation.name) {
            shapes[relation.id] = RowShape(relation, description: description)
        } else {
            ignored.insert(relation.id)
        }
    }

    /// The server has nothing before this position, if it is between transactions.
    public mutating func handleIdle(at lsn: LSN) {
        if !isInTransaction { position = max(position, lsn) }
    }

    /// - Parameter lsn: where the message's change stands in the WAL.
    public mutating func handle(_ message: PGOutputMessage, at lsn: LSN) throws(StreamError) {
        defer { arena.removeAll() }
        switch message {
        case .begin(let finalLSN, let commitTime, let xid):
            begin(finalLSN, commitTime, xid)
        case .commit(_, let endLSN, _):
            isInTransaction = false
            position = max(position, endLSN)
        case .insert(let relation, let new, _):
            try add(Change(kind: .insert, relation: 0, new: new), relation, lsn)
        case .update(let relation, let old, let new, _):
            try add(Change(kind: .update, relation: 0, old: old, new: new), relation, lsn)
        case .delete(let relation, let old, _):
            try add(Change(kind: .delete, relation: 0, old: old), relation, lsn)
        case .truncate(let relations, let cascade, let restartsIdentity, _):
            for relation in relations {
                guard let shape = try shape(relation) else { continue }
                open("truncate", shape, lsn)
                lines += Array(",\"cascade\":\(cascade),\"restartIdentity\":\(restartsIdentity)".utf8)
                close()
            }
        case .relation(let relation, _):
            announce(relation, description: nil)
        case .origin, .type, .message:
            break
        case .streamStart, .streamStop, .streamCommit, .streamAbort, .beginPrepare, .prepare, .commitPrepared,
            .rollbackPrepared, .streamPrepare:
            throw .unexpected("a streamed or two-phase transaction, which was not asked for")
        }
    }

    // MARK: lines

    /// PostgreSQL's own types have lower OIDs.
    private static let firstUserOID: UInt32 = 16_384

    private mutating func begin(_ commitLSN: LSN, _ time: PostgresTime, _ xid: UInt32) {
        isInTransaction = true
        transaction = Array(
            "\",\"commitLsn\":\"\(commitLSN)\",\"commitTime\":\"\(UTCTime.text(time))\",\"xid\":\(xid)".utf8)
    }

    /// `nil` when nobody wants the table, or the limit is reached.
    private func shape(_ relation: UInt32) throws(StreamError) -> RowShape? {
        guard isInTransaction else { throw .unexpected("a change outside a transaction") }
        if let shape = shapes[relation] { return isAtLimit ? nil : shape }
        guard ignored.contains(relation) else { throw .unknownRelation(relation) }
        return nil
    }

    private mutating func add(_ change: Change, _ relation: UInt32, _ lsn: LSN) throws(StreamError) {
        guard let shape = try shape(relation) else { return }
        let width = shape.columns.count
        guard change.kind == .delete || change.new.count == width, change.oldKind == nil || change.old.count == width
        else { throw .unexpected("a row with another number of columns than its relation") }
        switch change.kind {
        case .insert:
            open("insert", shape, lsn)
            appendMembers("key", shape, shape.key) { $0.cell(change.new, $1) }
            appendMembers("new", shape, Array(shape.columns.indices)) { $0.cell(change.new, $1) }
        case .update:
            open("update", shape, lsn)
            appendUpdate(change, shape)
        case .delete, .truncate:
            open("delete", shape, lsn)
            appendMembers("key", shape, shape.key) { $0.cell(change.old, $1) }
            appendOld(change, shape)
        }
        close()
    }

    private mutating func appendUpdate(_ change: Change, _ shape: RowShape) {
        appendMembers("key", shape, shape.key) { $0.newCell(change, shape, $1) }
        if change.oldKind != nil && shape.key.contains(where: { isChanged(change, $0) }) {
            appendMembers("oldKey", shape, shape.key) { $0.cell(change.old, $1) }
        }
        let (known, unknown) = shape.columns.indices.reduce(into: ([Int](), [Int]())) { result, column in
            if newCell(change, shape, column).kind == .unchanged { result.1.append(column) } else { result.0.append(column) }
        }
        appendMembers("new", shape, known) { $0.newCell(change, shape, $1) }
        lines += Array(",\"unchanged\":[".utf8)
        for (index, column) in unknown.enumerated() {
            if index > 0 { lines.append(UInt8(ascii: ",")) }
            lines += shape.columns[column].label
        }
        lines.append(UInt8(ascii: "]"))
        appendOld(change, shape)
    }

    /// The row as it was, which the stream has with `REPLICA IDENTITY FULL` alone.
    private mutating func appendOld(_ change: Change, _ shape: RowShape) {
        guard change.oldKind == .full else { return }
        let known = shape.columns.indices.filter { cell(change.old, $0).kind != .unchanged }
        appendMembers("old", shape, known) { $0.cell(change.old, $1) }
    }

    private mutating func open(_ operation: String, _ shape: RowShape, _ lsn: LSN) {
        lines += Array("{\"lsn\":\"\(lsn)".utf8)
        lines += transaction
        lines += shape.heading
        lines += Array("\"\(operation)\"".utf8)
    }

    private mutating func close() {
        lines += Array("}\n".utf8)
        eventCount += 1
    }

    // MARK: cells

    private func cell(_ tuple: TupleReference, _ column: Int) -> Cell { arena.cells[tuple.firstCell + column] }

    /// What the column holds after an update. A TOAST value that did not change stands in the old row, if that was sent.
    private func newCell(_ change: Change, _ shape: RowShape, _ column: Int) -> Cell {
        let new = cell(change.new, column)
        guard new.kind == .unchanged, let old = change.oldKind else { return new }
        return old == .full || shape.columns[column].isKey ? cell(change.old, column) : new
    }

    private func isChanged(_ change: Change, _ column: Int) -> Bool {
        let (old, new) = (cell(change.old, column), cell(change.new, column))
        return new.kind != .unchanged && (old.kind != new.kind || bytes(of: old) != bytes(of: new))
    }

    private func bytes(of cell: Cell) -> ArraySlice<UInt8> {
        cell.kind == .text ? arena.bytes[cell.range] : []
    }

    private mutating func appendMembers(
        _ name: String, _ shape: RowShape, _ columns: [Int], _ cell: (EventLines, Int) -> Cell
    ) {
        lines += Array(",\"\(name)\":{".utf8)
        for (index, column) in columns.enumerated() {
            if index > 0 { lines.append(UInt8(ascii: ",")) }
            lines += shape.columns[column].label
            lines.append(UInt8(ascii: ":"))
            append(cell(self, column), shape.columns[column].style)
        }
        lines.append(UInt8(ascii: "}"))
    }

    private mutating func append(_ cell: Cell, _ style: ValueStyle) {
        guard cell.kind == .text else { return lines.append(contentsOf: "null".utf8) }
        let value = bytes(of: cell)
        switch style {
        case .number: JSONText.appendNumber(value, to: &lines)
        case .document: JSONText.appendDocument(value, to: &lines)
        case .text: JSONText.appendString(value, to: &lines)
        case .bool: lines.append(contentsOf: (value.first == UInt8(ascii: "t") ? "true" : "false").utf8)
        }
    }
}
