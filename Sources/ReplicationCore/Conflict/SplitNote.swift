/// What an applied transaction says in its target's stream, for the reader of that stream.
///
/// Every applying transaction of a split writes one transactional logical message with prefix `messagePrefix`, with or
/// without notes (`encode`): PostgreSQL leaves a transaction that changed no published row out of the stream, and then
/// the target's later writes would seem not to have seen it.
public enum SplitNote: Sendable, Equatable {
    public static let messagePrefix = "lindero.split"
    private static let version: UInt8 = 1

    /// A remote delete met a local one of the same generation of the row: `key` by its bytes.
    case matched(table: QualifiedName, key: [UInt8], deletion: OperationID)
    /// A changed key has made a new row here: the values of the columns that this side owns travel back.
    case created(table: QualifiedName, key: [UInt8])

    /// The message's content.
    public static func encode(_ notes: [SplitNote]) -> [UInt8] {
        var bytes = [version]
        for note in notes {
            switch note {
            case .matched(let table, let key, let deletion):
                bytes.append(1)
                put(table, key, into: &bytes)
                put(deletion.commitLSN.rawValue, into: &bytes)
                put(UInt64(deletion.position), into: &bytes)
            case .created(let table, let key):
                bytes.append(2)
                put(table, key, into: &bytes)
            }
        }
        return bytes
    }

    public static func decode(_ bytes: [UInt8]) throws(SplitError) -> [SplitNote] {
        guard bytes.first == version else { throw .unreadableNote }
        var rest = bytes.dropFirst()
        var notes: [SplitNote] = []
        while let kind = rest.popFirst() {
            let schema = try string(from: &rest)
            let name = try string(from: &rest)
            let table = QualifiedName(schema: schema, name: name)
            let key = try block(from: &rest)
            switch kind {
            case 1:
                let lsn = LSN(try number(from: &rest))
                let position = try number(from: &rest)
                guard let position = Int(exactly: position) else { throw .unreadableNote }
                notes.append(
                    .matched(
                        table: table, key: key, deletion: OperationID(commitLSN: lsn, position: position)))
            case 2: notes.append(.created(table: table, key: key))
            default: throw .unreadableNote
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

    private static func string(from rest: inout ArraySlice<UInt8>) throws(SplitError) -> String {
        String(decoding: try block(from: &rest), as: UTF8.self)
    }
}
