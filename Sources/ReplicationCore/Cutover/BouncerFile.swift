/// The file that holds pgbouncer's `[databases]`, and one change to it: where an entry points.
///
/// Everything else is kept byte for byte, whatever it is.
public struct BouncerFile: Sendable, Equatable {
    public enum Problem: Error, Sendable, Equatable {
        /// The section `[databases]` has no such entry.
        case noEntry(String)
        /// It has two: which one pgbouncer takes is not for us to guess.
        case twice(String)
        /// The entry's text is not `key=value key='quoted value'`.
        case malformed(String)
    }

    public private(set) var bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// One `key=value` of an entry: where its value lies in the file, quotes included.
    private struct Setting {
        var key: String
        var value: Range<Int>
    }

    /// Points an entry elsewhere: host, port and dbname change where they stand; one that is missing comes first.
    public mutating func point(_ entry: String, to address: ServerAddress) throws(Problem) {
        let place = try value(of: entry)
        let settings = try settings(in: place, of: entry)
        var missing: [UInt8] = []
        var changes: [(range: Range<Int>, text: [UInt8])] = []
        for (key, value) in [("host", address.host), ("port", "\(address.port)"), ("dbname", address.database)] {
            let text = Array(Self.quoted(value).utf8)
            let standing = settings.filter { $0.key == key }
            guard standing.count < 2 else { throw .malformed(entry) }
            if let setting = standing.first {
                if Self.plain(bytes[setting.value]) != value { changes.append((setting.value, text)) }
            } else {
                missing += Array("\(key)=".utf8) + text + [UInt8(ascii: " ")]
            }
        }
        for change in changes.sorted(by: { $0.range.lowerBound > $1.range.lowerBound }) {
            bytes.replaceSubrange(change.range, with: change.text)
        }
        if settings.isEmpty, !missing.isEmpty { missing.removeLast() }
        bytes.insert(contentsOf: missing, at: place.lowerBound)
    }

    /// The text of an entry, to put it back with `restore`.
    public func text(of entry: String) throws(Problem) -> [UInt8] { Array(bytes[try value(of: entry)]) }

    /// Gives an entry the text that it had.
    public mutating func restore(_ entry: String, to text: [UInt8]) throws(Problem) {
        bytes.replaceSubrange(try value(of: entry), with: text)
    }

    // MARK: reading

    /// Where the value of an entry lies: after the `=`, without the spaces at either end.
    private func value(of entry: String) throws(Problem) -> Range<Int> {
        var found: [Range<Int>] = []
        var isInside = false
        var start = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            let line = Self.trimmed(start..<end, in: bytes)
            start = end + 1
            guard let first = bytes[line].first, first != UInt8(ascii: ";"), first != UInt8(ascii: "#") else { continue }
            if first == UInt8(ascii: "[") {
                isInside = Self.plainName(bytes[line]) == "[databases]"
            } else if isInside, let sign = bytes[line].firstIndex(of: UInt8(ascii: "=")) {
                let key = bytes[Self.trimmed(line.lowerBound..<sign, in: bytes)]
                if String(decoding: key, as: UTF8.self) == entry {
                    found.append(Self.trimmed(sign + 1..<line.upperBound, in: bytes))
                }
            }
        }
        guard let place = found.first else { throw .noEntry(entry) }
        guard found.count == 1 else { throw .twice(entry) }
        return place
    }

    private func settings(in place: Range<Int>, of entry: String) throws(Problem) -> [Setting] {
        var settings: [Setting] = []
        var at = place.lowerBound
        while true {
            while at < place.upperBound, Self.isSpace(bytes[at]) { at += 1 }
            if at == place.upperBound { return settings }
            let keyStart = at
            while at < place.upperBound, bytes[at] != UInt8(ascii: "="), !Self.isSpace(bytes[at]) { at += 1 }
            let key = String(decoding: bytes[keyStart..<at], as: UTF8.self)
            while at < place.upperBound, Self.isSpace(bytes[at]) { at += 1 }
            guard at < place.upperBound, bytes[at] == UInt8(ascii: "="), !key.isEmpty else { throw .malformed(entry) }
            at += 1
            while at < place.upperBound, Self.isSpace(bytes[at]) { at += 1 }
            guard let end = valueEnd(at, before: place.upperBound) else { throw .malformed(entry) }
            settings.append(Setting(key: key, value: at..<end))
            at = end
        }
    }

    /// Where a value ends; inside quotes two of them stand for one.
    private func valueEnd(_ start: Int, before limit: Int) -> Int? {
        let quote = UInt8(ascii: "'")
        var at = start
        guard at < limit, bytes[at] == quote else {
            while at < limit, !Self.isSpace(bytes[at]) { at += 1 }
            return at
        }
        at += 1
        while at < limit {
            if bytes[at] == quote {
                if at + 1 < limit, bytes[at + 1] == quote { at += 1 } else { return at + 1 }
            }
            at += 1
        }
        return nil
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }

    private static func trimmed(_ range: Range<Int>, in bytes: [UInt8]) -> Range<Int> {
        var (start, end) = (range.lowerBound, range.upperBound)
        while start < end, isSpace(bytes[start]) { start += 1 }
        while end > start, isSpace(bytes[end - 1]) { end -= 1 }
        return start..<end
    }

    private static func plainName(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes.filter { !isSpace($0) }, as: UTF8.self)
    }

    /// A value without its quotes.
    private static func plain(_ bytes: ArraySlice<UInt8>) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.count >= 2, text.hasPrefix("'"), text.hasSuffix("'") else { return text }
        var value = ""
        var isSecond = false
        for character in text.dropFirst().dropLast() {
            isSecond = character == "'" && !isSecond
            if !isSecond { value.append(character) }
        }
        return value
    }

    private static func quoted(_ value: String) -> String {
        let isPlain = !value.isEmpty && value.utf8.allSatisfy { byte in
            ("a"..."z").contains(Character(UnicodeScalar(byte))) || ("A"..."Z").contains(Character(UnicodeScalar(byte)))
                || ("0"..."9").contains(Character(UnicodeScalar(byte))) || "._-/:".utf8.contains(byte)
        }
        if isPlain { return value }
        var text = "'"
        for character in value {
            if character == "'" { text.append("'") }
            text.append(character)
        }
        return text + "'"
    }
}
