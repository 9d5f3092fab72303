/// How a service's writers are moved from one database to the other: `cutover:` in `lindero.yaml`.
public struct CutoverSettings: Sendable, Equatable {
    public enum Fence: String, Sendable, CaseIterable {
        /// Both databases take writes while services move.
        case none
        /// The old side takes no write of anyone while a service moves.
        case strict
    }

    public var fence = Fence.none
    public var bouncer: BouncerSettings?
    /// A program with its arguments that moves a service; empty when there is none.
    public var command: [String] = []

    public init() {}
}

/// A pgbouncer through which services reach their database.
public struct BouncerSettings: Sendable, Equatable {
    /// Its admin console.
    public var admin: SecretReference
    /// The file with its section `[databases]`.
    public var file: String
    /// The entry that each service connects to, by the service's database.
    public var entries: [String: String]
    /// How pgbouncer reaches a database, where that is not how Lindero does.
    public var addresses: [String: ServerAddress]

    public init(
        admin: SecretReference, file: String, entries: [String: String], addresses: [String: ServerAddress] = [:]
    ) {
        self.admin = admin
        self.file = file
        self.entries = entries
        self.addresses = addresses
    }
}

/// Where a database is, as an entry of pgbouncer says it.
public struct ServerAddress: Sendable, Equatable, CustomStringConvertible {
    /// A name, an address, or the folder of a socket.
    public var host: String
    public var port: Int
    public var database: String

    public init(host: String, port: Int, database: String) {
        (self.host, self.port, self.database) = (host, port, database)
    }

    /// Reads `host:port/database`.
    public init?(_ text: String) {
        guard let slash = text.lastIndex(of: "/"), let colon = text[..<slash].lastIndex(of: ":"),
            let port = Int(text[text.index(after: colon)..<slash]), (1...65_535).contains(port)
        else { return nil }
        let host = text[..<colon]
        let database = text[text.index(after: slash)...]
        guard !host.isEmpty, !database.isEmpty, !text.contains(where: \.isWhitespace) else { return nil }
        self.init(host: String(host), port: port, database: String(database))
    }

    public var description: String { "\(host):\(port)/\(database)" }
}
