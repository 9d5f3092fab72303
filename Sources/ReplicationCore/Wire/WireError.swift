/// Bytes from the server that are no valid message. Nothing of the message has been taken then.
public enum WireError: Error, Sendable, Equatable, CustomStringConvertible {
    case truncated(message: UInt8, offset: Int)
    case unknownMessage(UInt8)
    case unknownCellKind(UInt8)
    case badLength(Int32)
    case badField(message: UInt8, what: String)
    case trailingBytes(message: UInt8, count: Int)

    public var description: String {
        switch self {
        case .truncated(let message, let offset): "Message \(Self.name(message)) ends early, at byte \(offset)."
        case .unknownMessage(let message): "Message \(Self.name(message)) is not known."
        case .unknownCellKind(let kind): "Column kind \(Self.name(kind)) is not known."
        case .badLength(let length): "A length of \(length) is not possible."
        case .badField(let message, let what): "Message \(Self.name(message)) has a bad \(what)."
        case .trailingBytes(let message, let count): "Message \(Self.name(message)) has \(count) bytes too many."
        }
    }

    private static func name(_ byte: UInt8) -> String {
        (33..<127).contains(byte) ? "'\(Character(UnicodeScalar(byte)))'" : "0x\(String(byte, radix: 16))"
    }
}
