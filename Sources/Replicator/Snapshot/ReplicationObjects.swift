import Logging
import PostgresClient
import ReplicationCore

/// The direction's publication and slot on the source.
struct ReplicationObjects {
    let settings: DirectionSettings
    let source: PostgresConnection

    /// A name for both, made from the databases' names: lower case, digits and `_`, at most 63 bytes.
    static func name(source: String, target: String) -> String {
        let plain = "lindero_\(source)_\(target)".lowercased().unicodeScalars.map { scalar in
            ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar) ? Character(scalar) : "_"
        }
        return String(plain.prefix(63))
    }

    func slotExists() async throws -> Bool {
        try await source.query(
            "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [.text(settings.slot)]
        ).rowCount > 0
    }

    func foreignSlot() -> ReplicationFailure {
        ReplicationFailure(
            .slotExists,
            "Replication slot \(settings.slot) exists on \(settings.sourceName), but \(settings.targetName) knows nothing of it. "
                + "Another target may depend on it.",
            nextStep: "If none does, run on \(settings.sourceName): SELECT pg_drop_replication_slot("
                + "\(SQLText.literal(settings.slot))); then start again.", isBlocker: true)
    }

    /// Creates the publication, or makes it list exactly these tables. It is never dropped; one that the configuration
    /// names is only looked at.
    func ensurePublication(_ tables: [TableDescription]) async throws {
        guard let cover = try await PublicationCover.read(settings, on: source) else {
            guard PublicationCover.isOwn(settings) else { throw PublicationCover.missing(settings, tables) }
            let list = list(tables)
            _ = try await source.execute(
                "CREATE PUBLICATION \(SQLText.identifier(settings.publication))\(list.isEmpty ? "" : " FOR TABLE \(list)") "
                    + "WITH (publish_via_partition_root = true)")
            return
        }
        guard PublicationCover.isOwn(settings) else { return try cover.requireWhole(tables) }
        if try await !isForAllTables(), !tables.isEmpty { try await alter("SET TABLE \(list(tables))") }
    }

    /// Publishes tables that came later.
    func addToPublication(_ tables: [TableDescription]) async throws {
        guard let cover = try await PublicationCover.read(settings, on: source) else { return }
        guard PublicationCover.isOwn(settings) else { return try cover.requireWhole(tables) }
        let missing = tables.filter { cover.publication.tables[$0.name] == nil }
        if !missing.isEmpty { try await alter("ADD TABLE \(list(missing))") }
    }

    private func alter(_ action: String) async throws {
        _ = try await source.execute("ALTER PUBLICATION \(SQLText.identifier(settings.publication)) \(action)")
    }

    private func list(_ tables: [TableDescription]) -> String { tables.map(\.name).sorted().map(\.sql).joined(separator: ", ") }

    private func isForAllTables() async throws -> Bool {
        try await source.query(
            "SELECT puballtables::text FROM pg_catalog.pg_publication WHERE pubname = $1", [.text(settings.publication)]
        ).firstValue == "true"
    }
}

/// Makes a slot; while an open transaction keeps the server from it, says which.
public struct SlotCreation: Sendable {
    let source: PostgresConnection
    let logger: Logger

    public init(source: PostgresConnection, logger: Logger) {
        self.source = source
        self.logger = logger
    }

    public func create(
        _ name: String, temporary: Bool, exportsSnapshot: Bool = true, on walsender: ReplicationConnection
    ) async throws -> CreatedSlot {
        try await sayingWhoBlocks { try await walsender.createSlot(name, temporary: temporary, exportsSnapshot: exportsSnapshot) }
    }

    /// Waits for one that a worker who is gone has asked for.
    func waitUntilMade(_ settings: DirectionSettings) async throws {
        try await sayingWhoBlocks { try await SourceCheck(settings: settings, connection: source).waitUntilMade() }
    }

    private func sayingWhoBlocks<Made: Sendable>(_ make: @escaping @Sendable () async throws -> Made) async throws -> Made {
        try await withThrowingTaskGroup(of: Made?.self) { group in
            group.addTask { try await make() }
            group.addTask {
                while true {
                    try await Task.sleep(for: .seconds(3))
                    try await sayWhoBlocks()
                }
            }
            defer { group.cancelAll() }
            while let made = try await group.next() {
                if let made { return made }
            }
            throw CancellationError()
        }
    }

    private func sayWhoBlocks() async throws {
        let open = try await OpenTransactions.oldest(source)
        guard !open.isEmpty else { return }
        logger.warning(
            "the slot has to wait for open transactions",
            metadata: ["sessions": "\(open.joined(separator: "; "))"])
    }
}
