/// One CSV record's fields.
enum CSVRecord {
    struct Malformed: Error { let what: String }

    /// RFC 4180, and a quote inside an unquoted field is a quote. An empty field is NULL, a quoted empty one the empty
    /// string.
    static func fields(of bytes: [UInt8]) throws(Malformed) -> [String?] {
        // All at once: what lies between two ASCII bytes of valid UTF-8 is valid too.
        guard String(validating: bytes, as: UTF8.self) != nil else { throw Malformed(what: "it is not valid UTF-8") }
        var fields: [String?] = []
        var current: [UInt8] = []
        var wasQuoted = false
        var isInQuotes = false
        var index = 0
        func field() -> String? { current.isEmpty && !wasQuoted ? nil : String(decoding: current, as: UTF8.self) }
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            if isInQuotes {
                if byte != UInt8(ascii: "\"") {
                    current.append(byte)
                } else if index < bytes.count, bytes[index] == byte {
                    current.append(byte)
                    index += 1
                } else {
                    isInQuotes = false
                }
            } else if byte == UInt8(ascii: "\""), current.isEmpty, !wasQuoted {
                (isInQuotes, wasQuoted) = (true, true)
            } else if byte == UInt8(ascii: ",") {
                fields.append(field())
                current.removeAll(keepingCapacity: true)
                wasQuoted = false
            } else {
                guard !wasQuoted else { throw Malformed(what: "quotes do not match") }
                current.append(byte)
            }
        }
        guard !isInQuotes else { throw Malformed(what: "quotes do not match") }
        fields.append(field())
        return fields
    }
}
