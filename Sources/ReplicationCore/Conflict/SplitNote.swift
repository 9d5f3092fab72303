/// What an applying transaction says in its target's stream, for the reader of that stream: transactional logical
/// messages with prefix `messagePrefix`, their content made by `encode`. `mended` alone is no applying transaction's.
///
/// The first thing in every applying transaction of a split is `applied`, before any change. It stands for the origin's
/// position, which the stream does not give for large transactions; and without it a transaction that changed no published
/// row would not be in the stream at all, and the target's later writes would seem not to have seen it. The other notes,
/// if there are any, are the last thing (`GroupEffects.notes`).
public enum SplitNote: Sendable, Equatable {
    public static let messagePrefix = "lindero.split"
    private static let version: UInt8 = 1

    /// This transaction applies the source's up to here.
    case applied(CausalContext)
    /// A remote delete met a local one of the same generation of the row: `key` by its bytes.
    case matched(table: QualifiedName, key: [UInt8], deletion: OperationID)
    /// A changed key has made a new row here: the values of the columns that this side owns travel back.
    case created(table: QualifiedName, key: [UInt8])
    /// What follows in this transaction is what the target did because rows that others refer to have gone or got other
    /// keys: its own writes, which travel like any other of them. An update among them that changes nothing says once more
    /// what its row refers to.
    case consequences
    /// The rows that this transaction makes have every column from the source, as while services move: nothing of what they
    /// got here has to travel back.
    case whole
    /// A transaction of nobody's: it makes rows what they are on the other side, where nothing is on its way. It does not
    /// travel, and no write is concurrent with it.
    case mended

    /// The message's content.
    public static func encode(_ notes: [SplitNote]) -> [UInt8] {
        var bytes = [version]
        for note in notes {
            switch note {
            case .applied(let context):
                bytes.append(0)
                put(context.lsn.rawValue, into: &bytes)
                put(UInt64(bitPattern: context.time.microseconds), into: &bytes)
            case .matched(let table, let key, let deletion):
                bytes.append(1)
                put(table, key, into: &bytes)
                put(deletion.commitLSN.rawValue, into: &bytes)
                put(UInt64(deletion.position), into: &bytes)
            case .created(let table, let key):
                bytes.append(2)
                put(table, key, into: &bytes)
            case .consequences:
                bytes.append(3)
            case .whole:
                bytes.append(4)
            case .mended:
                bytes.append(5)
            }
        }
        return bytes
    }

    public static func decode(_ bytes: [UInt8]) throws(SplitError) -> [SplitNote] {
        guard bytes.first == version else { throw .unreadableNote }
        var rest = bytes.dropFirst()
        var notes: [SplitNote] = []
        while let kind = rest.popFirst() {
            switch kind {
            case 0:
                let lsn = LSN(try number(from: &rest))
                let time = Int64(bitPattern: try number(from: &rest))
                notes.append(.applied(CausalContext(lsn: lsn, time: PostgresTime(microseconds: time))))
            case 1:
                let (table, key) = try row(from: &rest)
                let lsn = LSN(try number(from: &rest))
                guard let position = Int(exactly: try number(from: &rest)) else { throw .unreadableNote }
                notes.append(
                    .matched(
                        table: table, key: key, deletion: OperationID(commitLSN: lsn, position: position)))
            case 2:
                let (table, key) = try row(from: &rest)
                notes.append(.created(table: table, key: key))
            case 3:
                notes.append(.consequences)
            case 4:
                notes.append(.whole)
            case 5:
                notes.append(.mended)
            default:
                throw .unreadableNote
            }
        }
        return notes
    }

    private static func put(_ table: QualifiedName, _ key: [UInt8], into bytes: inout [UInt8]) {
        for block in [Array(table.schema.utf8), Array(table.name.utf8), key] {
            put(UInt64(block.count), into: &bytes)
            bytes += block
        }
    }

    private static func put(_ number: UInt64, into bytes: inout [UInt8]) {
        for shift in stride(from: UInt64(56), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    private static func number(from rest: inout ArraySlice<UInt8>) throws(SplitError) -> UInt64 {
        guard rest.count >= 8 else { throw .unreadableNote }
        defer { rest = rest.dropFirst(8) }
        return rest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func block(from rest: inout ArraySlice<UInt8>) throws(SplitError) -> [UInt8] {
        let count = try number(from: &rest)
        guard count <= UInt64(rest.count) else { throw .unreadableNote }
        defer { rest = rest.dropFirst(Int(count)) }
        return Array(rest.prefix(Int(count)))
    }

    private static func row(
        from rest: inout ArraySlice<UInt8>
    ) throws(SplitError) -> (table: QualifiedName, key: [UInt8]) {
        let schema = try string(from: &rest)
        let name = try string(from: &rest)
        return (QualifiedName(schema: schema, name: name), try block(from: &rest))
    }

    private static func string(from rest: inout ArraySlice<UInt8>) throws(SplitError) -> String {
        String(decoding: try block(from: &rest), as: UTF8.self)
    }
}
