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

    /// Moves over a value without building it; nesting is counted, not recursed into.
    private mutating func skipValue() throws(Malformed) {
        var depth = 0
        repeat {
            skipSpace()
            guard position < bytes.count else { throw Malformed(what: "the JSON object does not end") }
            switch bytes[position] {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                position += 1
            case UInt8(ascii: "\""): _ = try string()
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard depth > 0 else { throw Malformed(what: "a value is missing") }
                position += 1
            default: try skipWord()
            }
        } while depth > 0
        guard depth == 0 else { throw Malformed(what: "brackets do not match") }
    }

    private mutating func skipWord() throws(Malformed) {
        let start = position
        while position < bytes.count, !",:]} \t\r\n".utf8.contains(bytes[position]) { position += 1 }
        let word = String(decoding: bytes[start..<position], as: UTF8.self)
        let isNumber = word.utf8.first.map { $0 == UInt8(ascii: "-") || (48...57).contains($0) } ?? false
        guard ["true", "false", "null"].contains(word) || isNumber && Double(word) != nil else {
            throw Malformed(what: "a value is not JSON")
        }
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
