/// Where the status server listens: an IP address and a port.
public struct HTTPAddress: Sendable, Equatable, CustomStringConvertible {
    /// Loopback, and a port that nothing common uses.
    public static let standard = HTTPAddress(host: "127.0.0.1", port: 8432)

    /// An IPv4 or IPv6 address, without brackets.
    public let host: String
    /// 0 lets the system choose.
    public let port: UInt16

    init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Parses `127.0.0.1:8432`, `[::1]:8432`, `localhost:8432` or `:8432`; `nil` when it is anything else.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        let host = String(text[..<colon])
        switch host {
        case "", "localhost": self.init(host: "127.0.0.1", port: port)
        case _ where host.hasPrefix("[") && host.hasSuffix("]"):
            let inner = String(host.dropFirst().dropLast())
            guard inner.contains(":") else { return nil }
            self.init(host: inner, port: port)
        case _ where Self.isIPv4(host): self.init(host: host, port: port)
        default: return nil
        }
    }

    public var isLoopback: Bool { host == "::1" || Self.isIPv4(host) && host.hasPrefix("127.") }
    var isWildcard: Bool { host == "0.0.0.0" || host == "::" }
    var isIPv6: Bool { host.contains(":") }

    public var description: String { "\(isIPv6 ? "[\(host)]" : host):\(port)" }

    /// Four numbers from 0 to 255.
    static func isIPv4(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } && UInt8($0) != nil }
    }
}
