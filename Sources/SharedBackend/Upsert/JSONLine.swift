/// Reads one JSON object and keeps every value as it was written: numbers lose no digit, documents no byte.
struct JSONLine {
    enum Value: Equatable {
        case null
        /// A string, unescaped.
        case text(String)
        /// A number, boolean, object or array as it stands.
        case raw(String)
    }

    struct Malformed: Error { let what: String }

    private let bytes: [UInt8]
    private var position = 0

    /// The members of the object that fills `line`, in order.
    static func members(of line: [UInt8]) throws(Malformed) -> [(name: String, value: Value)] {
        // All at once: what lies between two ASCII bytes of valid UTF-8 is valid too.
        guard String(validating: line, as: UTF8.self) != nil else { throw Malformed(what: "it is not valid UTF-8") }
        var reader = JSONLine(bytes: line)
        let members = try reader.object()
        reader.skipSpace()
        guard reader.position == line.count else { throw Malformed(what: "there is something after the JSON object") }
        return members
    }

    /// The elements of a JSON array, for PostgreSQL's own arrays.
    static func elements(of text: String) throws(Malformed) -> [Value] {
        var reader = JSONLine(bytes: Array(text.utf8))
        try reader.expect("[")
        var values: [Value] = []
        reader.skipSpace()
        if reader.take("]") { return values }
        while true {
            values.append(try reader.value())
            reader.skipSpace()
            if reader.take("]") { return values }
            try reader.expect(",")
        }
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private mutating func object() throws(Malformed) -> [(name: String, value: Value)] {
        try expect("{")
        var members: [(name: String, value: Value)] = []
        skipSpace()
        if take("}") { return members }
        while true {
            skipSpace()
            let name = try string()
            try expect(":")
            members.append((name, try value()))
            skipSpace()
            if take("}") { return members }
            try expect(",")
        }
    }

    private mutating func value() throws(Malformed) -> Value {
        skipSpace()
        guard position < bytes.count else { throw Malformed(what: "the JSON object does not end") }
        if bytes[position] == UInt8(ascii: "\"") { return .text(try string()) }
        let start = position
        try skipValue()
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        return text == "null" ? .null : .raw(text)
    }

    /// Moves over a value without building it; nesting is kept in a list, not recursed into.
    private mutating func skipValue() throws(Malformed) {
        var open: [UInt8] = []
        repeat {
            skipSpace()
            if take("{") {
                open.append(UInt8(ascii: "{"))
                skipSpace()
                if position < bytes.count, bytes[position] != UInt8(ascii: "}") {
                    try skipName()
                    continue
                }
            } else if take("[") {
                open.append(UInt8(ascii: "["))
                skipSpace()
                if position < bytes.count, bytes[position] != UInt8(ascii: "]") { continue }
            } else if position < bytes.count, bytes[position] == UInt8(ascii: "\"") {
                _ = try string()
            } else {
                try skipWord()
            }
            try skipEnds(&open)
        } while !open.isEmpty
    }

    /// After a value: closes what ends here, and goes on to the next value of what does not.
    private mutating func skipEnds(_ open: inout [UInt8]) throws(Malformed) {
        while let container = open.last {
            let isObject = container == UInt8(ascii: "{")
            skipSpace()
            guard !take(isObject ? "}" : "]") else {
                open.removeLast()
                continue
            }
            try expect(",")
            if isObject { try skipName() }
            return
        }
    }

    private mutating func skipName() throws(Malformed) {
        skipSpace()
        _ = try string()
        try expect(":")
    }

    private mutating func skipWord() throws(Malformed) {
        let start = position
        while position < bytes.count, !",:]} \t\r\n".utf8.contains(bytes[position]) { position += 1 }
        let word = bytes[start..<position]
        guard ["true", "false", "null"].contains(where: { word.elementsEqual($0.utf8) }) || Self.isNumber(word) else {
            throw Malformed(what: position < bytes.count ? "a value is not JSON" : "the JSON object does not end")
        }
    }

    /// Whether this is a number as RFC 8259 writes them.
    private static func isNumber(_ word: ArraySlice<UInt8>) -> Bool {
        var rest = word
        func isDigit(_ byte: UInt8?) -> Bool { byte.map { (48...57).contains($0) } ?? false }
        func skipDigits() -> Bool {
            guard isDigit(rest.first) else { return false }
            rest = rest.drop(while: isDigit)
            return true
        }
        if rest.first == UInt8(ascii: "-") { rest.removeFirst() }
        if rest.first == UInt8(ascii: "0") { rest.removeFirst() } else if !skipDigits() { return false }
        if rest.first == UInt8(ascii: ".") {
            rest.removeFirst()
            if !skipDigits() { return false }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest.removeFirst()
            if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") { rest.removeFirst() }
            if !skipDigits() { return false }
        }
        return rest.isEmpty
    }

    private mutating func string() throws(Malformed) -> String {
        guard take("\"") else { throw Malformed(what: "a name or string does not begin with a quote") }
        var units: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: units, as: UTF8.self)
            case UInt8(ascii: "\\"): try escape(into: &units)
            case 0..<32: throw Malformed(what: "a string holds a control character")
            default: units.append(byte)
            }
        }
        throw Malformed(what: "a string does not end")
    }

    private mutating func escape(into units: inout [UInt8]) throws(Malformed) {
        guard position < bytes.count else { throw Malformed(what: "a string does not end") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "n"): units.append(10)
        case UInt8(ascii: "t"): units.append(9)
        case UInt8(ascii: "r"): units.append(13)
        case UInt8(ascii: "b"): units.append(8)
        case UInt8(ascii: "f"): units.append(12)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): units.append(byte)
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if (0xD800..<0xDC00).contains(code), take("\\"), take("u") {
                let low = try hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else { throw Malformed(what: "a \\u escape is half a character") }
                code = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)
            }
            guard let scalar = UnicodeScalar(code) else { throw Malformed(what: "a \\u escape is half a character") }
            guard code != 0 else { throw Malformed(what: "a string holds \\u0000, which PostgreSQL's text cannot") }
            units.append(contentsOf: Array(String(Character(scalar)).utf8))
        default: throw Malformed(what: "a string has an unknown escape")
        }
    }

    private mutating func hexadecimal() throws(Malformed) -> UInt32 {
        guard position + 4 <= bytes.count,
            bytes[position..<(position + 4)].allSatisfy({ UnicodeScalar($0).properties.isASCIIHexDigit }),
            let code = UInt32(String(decoding: bytes[position..<(position + 4)], as: UTF8.self), radix: 16)
        else { throw Malformed(what: "a \\u escape has no four digits") }
        position += 4
        return code
    }

    private mutating func skipSpace() {
        while position < bytes.count, [32, 9, 10, 13].contains(bytes[position]) { position += 1 }
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: scalar) else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ scalar: Unicode.Scalar) throws(Malformed) {
        skipSpace()
        guard take(scalar) else { throw Malformed(what: "the record is not one JSON object (\"\(scalar)\" is missing)") }
    }
}
