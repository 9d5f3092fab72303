import Foundation

/// Decides which requests are answered. No sockets inside: headers come in as text.
///
/// Against DNS rebinding, a name that a web page could have made up is refused; off loopback a token is needed for
/// everything. There are no actions, so nothing but reading is allowed.
struct RequestGate: Sendable {
    enum Verdict: Equatable {
        case pass
        case refuse(status: Int, reason: String)
    }

    let address: HTTPAddress
    /// Further names under which this server is reached.
    let names: Set<String>
    let token: String?

    init(address: HTTPAddress, names: [String], token: String?) {
        self.address = address
        self.names = Set(names.map { $0.lowercased() })
        self.token = token
    }

    func decide(method: String, host: String?, origin: String?, authorization: String?) -> Verdict {
        guard method == "GET" || method == "HEAD" else {
            return .refuse(status: 405, reason: "Only GET and HEAD: nothing can be changed here.")
        }
        guard let host, let name = Self.name(ofHost: host) else {
            return .refuse(status: 400, reason: "The Host header is missing or malformed.")
        }
        guard isOurs(name) else {
            return .refuse(
                status: 421, reason: "This server is not called that. Set LINDERO_HTTP_NAMES to the names it has.")
        }
        if let origin, !isSame(origin, host) {
            return .refuse(status: 403, reason: "Pages of another origin may not read this.")
        }
        guard let token else { return .pass }
        return holds(authorization, token)
            ? .pass : .refuse(status: 401, reason: "A token is needed: Authorization: Bearer …, or as a password.")
    }

    private func isOurs(_ name: String) -> Bool {
        if ["localhost", "127.0.0.1", "::1", address.host].contains(name) || names.contains(name) { return true }
        // An address can't be rebound: the browser is where it says it is.
        return address.isWildcard && (HTTPAddress.isIPv4(name) || name.contains(":"))
    }

    private func isSame(_ origin: String, _ host: String) -> Bool {
        let origin = origin.lowercased()
        return origin == "http://" + host.lowercased() || origin == "https://" + host.lowercased()
    }

    /// The name or address in a Host header, lower-cased, without brackets and port; `nil` when malformed.
    static func name(ofHost host: String) -> String? {
        let host = host.lowercased()
        if host.hasPrefix("[") {
            guard let end = host.firstIndex(of: "]") else { return nil }
            let rest = host[host.index(after: end)...]
            guard rest.isEmpty || isPort(rest) else { return nil }
            return String(host[host.index(after: host.startIndex)..<end])
        }
        let parts = host.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = parts.first, !name.isEmpty else { return nil }
        guard parts.count == 1 || isPort(host[name.endIndex...]) else { return nil }
        return name.hasSuffix(".") ? String(name.dropLast()) : String(name)
    }

    private static func isPort(_ text: Substring) -> Bool {
        text.hasPrefix(":") && UInt16(text.dropFirst()) != nil
    }
}

// MARK: token

extension RequestGate {
    /// A bearer token, or basic authentication with the token as the password, which is what a browser can send.
    private func holds(_ authorization: String?, _ token: String) -> Bool {
        guard let parts = authorization?.split(separator: " ", maxSplits: 1), parts.count == 2 else { return false }
        switch parts[0].lowercased() {
        case "bearer": return Self.isEqual(Array(parts[1].utf8), Array(token.utf8))
        case "basic":
            guard let pair = Data(base64Encoded: String(parts[1])), let colon = pair.firstIndex(of: UInt8(ascii: ":")) else {
                return false
            }
            return Self.isEqual(Array(pair[(colon + 1)...]), Array(token.utf8))
        default: return false
        }
    }

    /// Takes the same time wherever two texts differ.
    static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        var difference = left.count ^ right.count
        for index in 0..<min(left.count, right.count) { difference |= Int(left[index] ^ right[index]) }
        return difference == 0
    }
}
