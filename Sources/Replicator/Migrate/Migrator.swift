import Migrations
import PostgresClient
import ReplicationCore

/// Brings the schema `lindero` of a database to this version's state, or removes it.
///
/// Idempotent, and safe when two run at once: the second waits for the first and finds nothing to do.
public struct Migrator: Sendable {
    /// Key of the advisory lock under which migrations run.
    static let lockKey = "7310868735421415280"

    let connection: PostgresConnection
    let migrations: [Migrations.Migration]

    public init(connection: PostgresConnection, migrations: [Migrations.Migration] = Migrations.all) {
        self.connection = connection
        self.migrations = migrations
    }

    /// What cannot be done without a person.
    public enum Problem: Error, Sendable, CustomStringConvertible {
        /// An applied migration is not the one this program has.
        case checksumDiffers(version: Int, name: String)
        /// The database was migrated by a newer Lindero.
        case newerDatabase(version: Int)
        /// The schema holds things that no migration made.
        case foreignObjects([String])
        /// A worker is applying to this database, or reads it.
        case workerRunning
        /// Something in the database is as Lindero made it and has to be put back, or decided, first.
        case stillNeeded(String, hint: String)

        public var description: String {
            switch self {
            case .checksumDiffers(let version, let name):
                "Migration \(version) (\(name)) was applied with other content than this program has. "
                    + "Use the Lindero that applied it, or run its `lindero migrate --down` first."
            case .newerDatabase(let version):
                "The schema lindero is at version \(version), made by a newer Lindero. Upgrade this program."
            case .foreignObjects(let objects):
                "The schema lindero holds what Lindero did not make: \(objects.joined(separator: ", ")). "
                    + "Nothing was removed. Move or drop that, then run `lindero migrate --down` again."
            case .workerRunning:
                "A worker is writing to this database or reads it. Nothing was removed. Stop `lindero run`, then run "
                    + "`lindero migrate --down` again."
            case .stillNeeded(let reason, let hint): "Not yet: \(reason). Nothing was removed. \(hint)"
            }
        }
    }

    /// Applies what is missing.
    ///
    /// - Returns: the versions applied now.
    @discardableResult
    public func migrate() async throws -> [Int] {
        let missing = try await pending()
        guard !missing.isEmpty else { return [] }
        return try await inTransaction {
            var applied: [Int] = []
            for migration in try await pending() {
                _ = try await connection.execute(migration.up)
                _ = try await connection.query(
                    "INSERT INTO lindero.migration (version, name, checksum) VALUES ($1::text::int, $2, \(Self.checksum("$3")))",
                    [.text("\(migration.version)"), .text(migration.name), .text(migration.up)])
                applied.append(migration.version)
            }
            return applied
        }
    }

    /// The SQL that `migrate` would run, in order.
    public func plan() async throws -> [String] {
        let missing = try await pending().map(\.up)
        return try await exists() ? missing : [Self.groundSQL] + missing
    }

    private func pending() async throws -> [Migrations.Migration] {
        guard try await exists() else { return migrations }
        let applied = try await applied()
        let known = try applied.map { row in
            guard let known = migrations.first(where: { $0.version == row.version }) else {
                throw Problem.newerDatabase(version: row.version)
            }
            return known
        }
        let checksums = try await connection.query(
            "SELECT \(Self.checksum("content")) FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u (content, place) ORDER BY place",
            [.text(SQLText.arrayLiteral(known.map(\.up)))]
        ).rows.map { $0[0] }
        for (position, row) in applied.enumerated() where checksums[position] != row.checksum {
            throw Problem.checksumDiffers(version: row.version, name: known[position].name)
        }
        let versions = Set(applied.map(\.version))
        return migrations.filter { !versions.contains($0.version) }
    }

    func exists() async throws -> Bool {
        try await connection.hasLindero("migration")
    }

    func applied() async throws -> [(version: Int, checksum: String)] {
        try await connection.query("SELECT version::text, checksum FROM lindero.migration ORDER BY version").rows.map {
            (Int($0[0] ?? "") ?? 0, $0[1] ?? "")
        }
    }

    func inTransaction<Value>(_ body: () async throws -> Value) async throws -> Value {
        try await connection.inTransaction {
            _ = try await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(\(Self.lockKey))")
            _ = try await connection.execute(Self.groundSQL)
            return try await body()
        }
    }

    /// What every migration stands on.
    static let groundSQL = """
        CREATE SCHEMA IF NOT EXISTS lindero;
        CREATE TABLE IF NOT EXISTS lindero.migration (
            version    int PRIMARY KEY,
            name       text NOT NULL,
            checksum   text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
        """

    private static func checksum(_ parameter: String) -> String {
        "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\(parameter)::text, 'UTF8')), 'hex')"
    }
}
