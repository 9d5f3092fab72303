import Foundation
import ReplicationCore

/// Why a secret could not be read. Names the place, never the value.
public enum SecretError: Error, Sendable, Equatable, CustomStringConvertible {
    case missingVariable(String, database: String)
    case emptyVariable(String, database: String)
    case unreadableFile(String, database: String)
    case emptyFile(String, database: String)
    /// The value is there and is no address of a PostgreSQL database.
    case notAConnection(place: String, database: String)
    /// Prisma Accelerate and Prisma Postgres proxies speak HTTP, not PostgreSQL.
    case prismaProxy(place: String, database: String)
    /// Arguments of a process are no secret.
    case passwordInArgument(String)
    case malformedArgument(String)

    public var description: String {
        switch self {
        case .missingVariable(let name, let database):
            "database \(database): the environment variable \(name) is not set"
        case .emptyVariable(let name, let database):
            "database \(database): the environment variable \(name) is empty"
        case .unreadableFile(let path, let database):
            "database \(database): the file \(path) can't be read"
        case .emptyFile(let path, let database):
            "database \(database): the file \(path) is empty"
        case .notAConnection(let place, let database):
            "database \(database): \(place) holds no connection string; expected postgresql://user:password@host/name "
                + "or host=… dbname=…"
        case .prismaProxy(let place, let database):
            "database \(database): \(place) holds a prisma:// address, which is a proxy; Lindero needs the database's "
                + "own postgresql:// URL (Prisma calls it directUrl)"
        case .passwordInArgument(let name):
            "\(name) holds a password, and every user of this machine can read the arguments of a process; leave it "
                + "to PGPASSFILE, ~/.pgpass or PGPASSWORD, or write \(name) env:NAME"
        case .malformedArgument(let name):
            "\(name) must be a connection string without a password, env:NAME, file:PATH or service:NAME"
        }
    }
}

/// Turns references to secrets into connection strings for libpq.
public struct SecretResolver: Sendable {
    private let environment: [String: String]
    private let directory: String

    /// - Parameters:
    ///   - environment: the process's own by default.
    ///   - directory: where relative `file:` paths start: the folder of the configuration file.
    public init(environment: [String: String] = ProcessInfo.processInfo.environment, directory: String = ".")
    {
        self.environment = environment
        self.directory = directory
    }

    /// The database's connection string, with Prisma's own parameters taken out.
    public func conninfo(of database: DatabaseSettings) throws(SecretError) -> String {
        switch database.url {
        case .conninfo(let text):
            return text
        case .environment(let name):
            guard let value = environment[name] else { throw .missingVariable(name, database: database.name) }
            let text = trimmed(value)
            guard !text.isEmpty else { throw .emptyVariable(name, database: database.name) }
            return try checked(text, place: "the environment variable \(name)", database: database.name)
        case .file(let path):
            let place = path.hasPrefix("/") ? path : directory + "/" + path
            guard let data = FileManager.default.contents(atPath: place),
                let value = String(data: data, encoding: .utf8)
            else { throw .unreadableFile(path, database: database.name) }
            let text = trimmed(value)
            guard !text.isEmpty else { throw .emptyFile(path, database: database.name) }
            return try checked(text, place: "the file \(path)", database: database.name)
        }
    }

    private func checked(_ text: String, place: String, database: String) throws(SecretError) -> String {
        if ConnectionText.isURI(text) { return PrismaURL.withoutPrismaParameters(text) }
        if text.hasPrefix("prisma://") || text.hasPrefix("prisma+") {
            throw .prismaProxy(place: place, database: database)
        }
        guard ConnectionText.keywords(text) != nil else {
            throw .notAConnection(place: place, database: database)
        }
        return text
    }

    /// Editors end files with a newline, and .env files often keep the quotes.
    private func trimmed(_ text: String) -> String {
        let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
        for quote in ["\"", "'"] where text.count >= 2 && text.hasPrefix(quote) && text.hasSuffix(quote) {
            return String(text.dropFirst().dropLast())
        }
        return text
    }
}
