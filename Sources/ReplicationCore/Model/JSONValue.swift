/// A JSON document whose keys keep their order and whose unknown values are printed as `null`.
public enum JSONValue: Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case text(String)
    case array([JSONValue])
    case object([(String, JSONValue)])
    /// JSON that a server has written, printed as it is.
    case document(String)

    public static func optional(_ value: String?) -> JSONValue { value.map { .text($0) } ?? .null }
    public static func optional(_ value: Bool?) -> JSONValue { value.map { .bool($0) } ?? .null }
    public static func optional(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
    public static func optional(_ value: (some BinaryInteger)?) -> JSONValue {
        value.map { .integer(Int64(clamping: $0)) } ?? .null
    }
    public static func texts(_ values: some Sequence<String>) -> JSONValue { .array(values.map { .text($0) }) }

    /// The document on several lines, without a newline at the end.
    public var text: String {
        var text = ""
        append(to: &text, indent: "")
        return text
    }

    /// The document on one line, for streams of documents.
    public var line: String {
        var text = ""
        append(to: &text, indent: nil)
        return text
    }

    /// - Parameter indent: of the line so far; `nil` for everything on one line.
    private func append(to text: inout String, indent: String?) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .integer(let value): text += "\(value)"
        case .number(let value): text += value.isFinite ? "\(value)" : "null"
        case .text(let value): Self.appendQuoted(value, to: &text)
        case .document(let json): text += json
        case .array(let values):
            Self.appendList(values, open: "[", close: "]", to: &text, indent: indent) { value, text, inner in
                value.append(to: &text, indent: inner)
            }
        case .object(let entries):
            Self.appendList(entries, open: "{", close: "}", to: &text, indent: indent) { entry, text, inner in
                Self.appendQuoted(entry.0, to: &text)
                text += ": "
                entry.1.append(to: &text, indent: inner)
            }
        }
    }

    private static func appendList<Element>(
        _ elements: [Element], open: String, close: String, to text: inout String, indent: String?,
        _ appendElement: (Element, inout String, String?) -> Void
    ) {
        text += open
        let inner = indent.map { $0 + "  " }
        for (position, element) in elements.enumerated() {
            if position > 0 { text += inner == nil ? ", " : "," }
            if let inner { text += "\n" + inner }
            appendElement(element, &text, inner)
        }
        if let indent, !elements.isEmpty { text += "\n" + indent }
        text += close
    }

    private static func appendQuoted(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
