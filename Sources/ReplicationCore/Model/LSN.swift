/// A position in the write-ahead log: a byte offset, printed as two hexadecimal halves (`16/B374D848`).
public struct LSN: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Byte offset from the start of the log.
    public let rawValue: UInt64

    /// The value PostgreSQL uses for "no position".
    public static let zero = LSN(0)

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// Parses PostgreSQL's text form; `nil` when it is anything else.
    public init?(_ text: some StringProtocol) {
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        // The digits are looked at one by one: the integer parser would take a sign.
        guard halves.count == 2,
            halves.allSatisfy({ (1...8).contains($0.utf8.count) && $0.allSatisfy(\.isHexDigit) }),
            let high = UInt32(halves[0], radix: 16), let low = UInt32(halves[1], radix: 16)
        else { return nil }
        rawValue = UInt64(high) << 32 | UInt64(low)
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
