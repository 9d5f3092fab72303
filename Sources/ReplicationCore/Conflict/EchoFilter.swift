/// Knows the messages of a split's stream that nobody needs: updates that our own direction has made, and that left a row's
/// key as it was.
///
/// Of a busy direction that is all that comes back, each with the old row and the new one whole. So they are left out before
/// they are decoded. What `SplitReader` counts as a change's position is counted without them.
public struct EchoFilter: Sendable {
    private let ownOrigin: OriginName
    private let match: [QualifiedName: [String]]
    /// By definition: where the match columns are in a row, in ascending order; none where they are not all there.
    private var keyIndexes: [Int: [Int]] = [:]
    private var last: (definition: Int, keyIndexes: [Int])?
    /// Inside what our own direction has applied.
    private var isInside = false
    private var oldValues: [Range<Int>] = []

    /// - Parameters:
    ///   - ownOrigin: of the direction that writes into the database that is read.
    ///   - match: the match columns of each table of the split.
    public init(ownOrigin: String, match: [QualifiedName: [String]]) {
        self.ownOrigin = OriginName(ownOrigin)
        self.match = match
    }

    /// Takes note of a message that was decoded.
    ///
    /// - Throws: `SplitError.unreadableNote`.
    public mutating func note(_ message: PGOutputMessage) throws(SplitError) {
        switch message {
        case .begin, .commit: isInside = false
        case .origin(_, let name): isInside = ownOrigin.holds(name)
        case .message(_, _, SplitNote.messagePrefix, let content, _):
            // What follows are the database's own writes.
            if isInside, try SplitNote.decode(content).contains(.consequences) { isInside = false }
        default: break
        }
    }

    /// Whether the message that fills `range` says nothing. One that cannot be read is left to the decoder.
    ///
    /// - Parameter relations: what the stream has announced so far.
    public mutating func leavesOut(_ bytes: [UInt8], _ range: Range<Int>, _ relations: RelationHistory) -> Bool {
        guard isInside, range.count > 6, bytes[range.lowerBound] == UInt8(ascii: "U"),
            bytes[range.lowerBound + 5] == UInt8(ascii: "O")
        else { return false }
        return bytes.withUnsafeBytes { buffer in
            var reader = WireReader(buffer, range, message: UInt8(ascii: "U"))
            return (try? keepsKey(&reader, relations)) ?? false
        }
    }

    private mutating func keepsKey(_ reader: inout WireReader, _ relations: RelationHistory) throws(WireError) -> Bool {
        try reader.skip(1)
        guard let definition = relations.index(of: try reader.uint32()) else { return false }
        if last?.definition != definition { last = (definition, indexes(definition, relations)) }
        guard let key = last?.keyIndexes, let lastIndex = key.last else { return false }
        try reader.skip(1)
        oldValues.removeAll(keepingCapacity: true)
        for index in 0..<Int(try reader.uint16()) {
            let value = try Self.value(&reader)
            if oldValues.count < key.count, key[oldValues.count] == index { oldValues.append(value) }
        }
        guard oldValues.count == key.count, try reader.byte() == UInt8(ascii: "N") else { return false }
        guard try reader.uint16() > lastIndex else { return false }
        var position = 0
        for index in 0...lastIndex {
            let value = try Self.value(&reader)
            guard key[position] == index else { continue }
            let old = oldValues[position]
            // A value that was not sent did not change.
            let isSame =
                reader.bytes[value.lowerBound] == UInt8(ascii: "u")
                || reader.bytes[old].elementsEqual(reader.bytes[value])
            if !isSame { return false }
            position += 1
        }
        return true
    }

    /// A value with its kind and its length.
    @inline(__always)
    private static func value(_ reader: inout WireReader) throws(WireError) -> Range<Int> {
        let start = reader.offset
        switch try reader.byte() {
        case UInt8(ascii: "n"), UInt8(ascii: "u"): break
        default: try reader.skip(Int(try reader.int32()))
        }
        return start..<reader.offset
    }

    private mutating func indexes(_ definition: Int, _ relations: RelationHistory) -> [Int] {
        if let known = keyIndexes[definition] { return known }
        var found: [Int] = []
        if let relation = relations[definition], let names = match[relation.name] {
            found = names.compactMap { name in relation.columns.firstIndex { $0.name == name } }.sorted()
            if found.count < names.count { found = [] }
        }
        keyIndexes[definition] = found
        return found
    }
}
