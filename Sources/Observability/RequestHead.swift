import Foundation

/// The head of an HTTP/1.1 request, which is all of it that is read. No sockets inside.
struct RequestHead: Sendable {
    /// More is refused (431). A browser brings the cookies of everything else on the host.
    static let limitBytes = 32 << 10

    /// Not HTTP/1.1 as RFC 9112 has it.
    struct Malformed: Error {}

    var method: String
    /// As it was sent.
    var path: String
    var query: [(name: String, value: String)] = []
    /// Names in lower case, in the order in which they came.
    private var fields: [(name: String, value: String)] = []

    /// Where a head ends; `nil` while more of it is to come.
    ///
    /// - Parameter from: what was looked at before.
    static func end(of bytes: [UInt8], from: Int) -> Int? {
        var index = max(0, from - 3)
        while let next = bytes[index...].firstIndex(of: UInt8(ascii: "\n")) {
            // An empty line, with or without its carriage return.
            let rest = bytes[(next + 1)...]
            if rest.first == UInt8(ascii: "\n") { return next + 2 }
            if rest.starts(with: [UInt8(ascii: "\r"), UInt8(ascii: "\n")]) { return next + 3 }
            index = next + 1
        }
        return nil
    }

    /// - Parameter bytes: up to the empty line.
    init(_ bytes: some Sequence<UInt8>) throws(Malformed) {
        // By bytes: a carriage return and a newline are one character to a String.
        let lines = Array(bytes).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .map { Substring(decoding: $0.last == UInt8(ascii: "\r") ? $0.dropLast() : $0, as: UTF8.self) }
        let parts = (lines.first ?? "").split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[2].hasPrefix("HTTP/1."), parts[1].hasPrefix("/"), Self.isToken(parts[0]) else { throw Malformed() }
        method = String(parts[0])
        let target = parts[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = String(target[0])
        if target.count > 1 { query = try Self.query(target[1]) }
        for line in lines.dropFirst() where !line.isEmpty {
            // A name ends at its colon: neither a space before it nor a line that goes on has a meaning any more.
            guard let colon = line.firstIndex(of: ":"), Self.isToken(line[..<colon]) else { throw Malformed() }
            fields.append((line[..<colon].lowercased(), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)))
        }
    }

    /// The one field of a name; `nil` also where there are several, which mean different things to different readers.
    func field(_ name: String) -> String? {
        let found = fields.filter { $0.name == name }
        return found.count == 1 ? found[0].value : nil
    }

    private static func query(_ text: Substring) throws(Malformed) -> [(name: String, value: String)] {
        var items: [(name: String, value: String)] = []
        for item in text.split(separator: "&") {
            let pair = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = pair[0].removingPercentEncoding, let value = (pair.count > 1 ? pair[1] : "").removingPercentEncoding else { throw Malformed() }
            items.append((name, value))
        }
        return items
    }

    private static func isToken(_ text: Substring) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
