/// Appends JSON to bytes, so that values go from the stream to the output without becoming strings.
enum JSONText {
    static func appendString(_ text: String, to output: inout [UInt8]) {
        output.append(quote)
        appendEscaped(Array(text.utf8)[...], to: &output)
        output.append(quote)
    }

    /// A string of what the server sent. Bytes that are no UTF-8 (`SQL_ASCII` databases can hold them) become U+FFFD.
    static func appendString(_ bytes: ArraySlice<UInt8>, to output: inout [UInt8]) {
        output.append(quote)
        appendEscaped(repaired(bytes), to: &output)
        output.append(quote)
    }

    /// A document of `json` or `jsonb`, on one line.
    ///
    /// PostgreSQL refuses control characters inside JSON strings, so those that are here are white space between tokens.
    static func appendDocument(_ bytes: ArraySlice<UInt8>, to output: inout [UInt8]) {
        for byte in repaired(bytes) { output.append(byte < 0x20 ? space : byte) }
    }

    /// A number as it stands when it is one in JSON too, else a string (`NaN`, `Infinity`).
    static func appendNumber(_ bytes: ArraySlice<UInt8>, to output: inout [UInt8]) {
        if isNumber(bytes) { output.append(contentsOf: bytes) } else { appendString(bytes, to: &output) }
    }

    /// Whether these bytes are a number in JSON's grammar.
    static func isNumber(_ bytes: ArraySlice<UInt8>) -> Bool {
        var rest = bytes
        if rest.first == UInt8(ascii: "-") { rest.removeFirst() }
        let whole = takeDigits(&rest)
        guard whole.first != nil, whole.count == 1 || whole.first != UInt8(ascii: "0") else { return false }
        if rest.first == UInt8(ascii: ".") {
            rest.removeFirst()
            if takeDigits(&rest).isEmpty { return false }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest.removeFirst()
            if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") { rest.removeFirst() }
            if takeDigits(&rest).isEmpty { return false }
        }
        return rest.isEmpty
    }

    // MARK: inside

    private static let quote = UInt8(ascii: "\"")
    private static let backslash = UInt8(ascii: "\\")
    private static let space = UInt8(ascii: " ")
    private static let hexDigits = Array("0123456789abcdef".utf8)

    private static func takeDigits(_ bytes: inout ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let digits = bytes.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        bytes = bytes[digits.endIndex...]
        return digits
    }

    private static func repaired(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard bytes.contains(where: { $0 >= 0x80 }) else { return bytes }
        return Array(String(decoding: bytes, as: UTF8.self).utf8)[...]
    }

    /// Copies run by run: few values hold anything that must be escaped.
    private static func appendEscaped(_ bytes: ArraySlice<UInt8>, to output: inout [UInt8]) {
        var start = bytes.startIndex
        for index in bytes.indices {
            let byte = bytes[index]
            guard byte < 0x20 || byte == quote || byte == backslash else { continue }
            output.append(contentsOf: bytes[start..<index])
            start = index + 1
            output.append(backslash)
            switch byte {
            case quote, backslash: output.append(byte)
            case UInt8(ascii: "\n"): output.append(UInt8(ascii: "n"))
            case UInt8(ascii: "\r"): output.append(UInt8(ascii: "r"))
            case UInt8(ascii: "\t"): output.append(UInt8(ascii: "t"))
            default:
                output.append(contentsOf: "u00".utf8)
                output.append(hexDigits[Int(byte >> 4)])
                output.append(hexDigits[Int(byte & 15)])
            }
        }
        output.append(contentsOf: bytes[start...])
    }
}
