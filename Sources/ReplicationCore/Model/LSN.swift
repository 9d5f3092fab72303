/// A position in the write-ahead log: a byte offset, printed as two hexadecimal halves (`16/B374D848`).
public struct LSN: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Byte offset from the start of the log.
    public let rawValue: UInt64

    /// The value PostgreSQL uses for "no position".
    public static let zero = LSN(0)

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// Parses PostgreSQL's text form; `nil` when it is anything else.
    ///
    /// Byte by byte: the worker asks the target for its position many times a second, between two transactions, and a string's
    /// characters, in a cache that others have used meanwhile, took it 100 µs.
    public init?(_ text: String) {
        var high: UInt64?
        var half: UInt64 = 0
        var digits = 0
        for byte in text.utf8 {
            if byte == UInt8(ascii: "/") {
                guard high == nil, digits > 0 else { return nil }
                (high, half, digits) = (half, 0, 0)
            } else {
                guard digits < 8, let digit = Self.hexadecimal(byte) else { return nil }
                half = half << 4 | digit
                digits += 1
            }
        }
        guard let high, digits > 0 else { return nil }
        rawValue = high << 32 | half
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A") + 10)
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        default: nil
        }
    }

    public static func < (left: LSN, right: LSN) -> Bool { left.rawValue < right.rawValue }

    /// Bytes from `earlier` to here; 0 when `earlier` is ahead.
    public func lagBytes(behind earlier: LSN) -> UInt64 {
        rawValue > earlier.rawValue ? rawValue - earlier.rawValue : 0
    }

    public var description: String {
        String(rawValue >> 32, radix: 16, uppercase: true) + "/"
            + String(UInt32(truncatingIfNeeded: rawValue), radix: 16, uppercase: true)
    }
}
