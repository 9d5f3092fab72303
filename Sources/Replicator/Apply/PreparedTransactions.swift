import PostgresClient
import ReplicationCore

/// The direction's transactions that stand prepared on the target, under names that tell what they are.
///
/// A name is the origin's, the source's transaction id and the end of its Prepare: what is there after a crash is known
/// by it, however far the progress says that the direction came.
struct PreparedTransactions: Sendable {
    /// The origin's name, as far as a transaction's may be long.
    private let prefix: String
    /// By the source's transaction id, which no other has until that one ends.
    private var names: [UInt32: String] = [:]
    /// Those that the source has rolled back, and of which it still sends something: nothing of them is prepared.
    var rolledBack: Set<Prepare> = []

    /// A Prepare in the source's log.
    struct Prepare: Hashable {
        var xid: UInt32
        var lsn: LSN
    }

    init(origin: String) { prefix = Self.prefix(origin) }

    /// Those that stand now.
    static func read(_ target: PostgresConnection, direction: String) async throws -> PreparedTransactions {
        let origin = try await ProgressOrigin(connection: target, direction: direction).name()
        var prepared = PreparedTransactions(origin: origin)
        for name in try await names(target) {
            guard name.hasPrefix(prepared.prefix + " "),
                let xid = name.dropFirst(prepared.prefix.count + 1).split(separator: " ").first.flatMap({ UInt32($0) })
            else { continue }
            prepared.names[xid] = name
        }
        return prepared
    }

    /// Those of any direction into the database, by `newName`.
    static func names(_ target: PostgresConnection) async throws(PostgresError) -> [String] {
        try await target.query(
            """
            SELECT gid FROM pg_catalog.pg_prepared_xacts
            WHERE database = pg_catalog.current_database() AND gid ~ '^lindero_.* [0-9]+ [0-9A-F]+/[0-9A-F]+$' ORDER BY gid
            """
        ).rows.compactMap { $0[0] }
    }

    var all: [String] { names.values.sorted() }

    /// The name for a transaction that is to be prepared.
    func newName(xid: UInt32, prepareLSN: LSN) -> String { "\(prefix) \(xid) \(prepareLSN)" }

    func name(of xid: UInt32) -> String? { names[xid] }

    func contains(xid: UInt32, prepareLSN: LSN) -> Bool {
        names[xid] == newName(xid: xid, prepareLSN: prepareLSN)
    }

    mutating func note(_ name: String, of xid: UInt32) { names[xid] = name }
    mutating func forget(_ xid: UInt32) { names[xid] = nil }

    /// The server takes 199 bytes; a longer origin is told apart by a number made of all its bytes.
    private static func prefix(_ origin: String) -> String {
        if origin.utf8.count <= 150 { return origin }
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in origin.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return origin.unicodeScalars.prefix(30).map { "\($0)" }.joined() + String(hash, radix: 16)
    }

    /// Refuses a target where an earlier life of the direction left some: they hold locks, and nobody would end them.
    static func requireNone(_ target: PostgresConnection, settings: DirectionSettings) async throws {
        let left = try await read(target, direction: settings.name).all
        guard !left.isEmpty else { return }
        throw ReplicationFailure(
            .preparedLeft,
            "\(settings.targetName) has prepared transactions of an earlier \(settings.name), which nobody will end any more.",
            nextStep: "Run on \(settings.targetName): "
                + left.map { "ROLLBACK PREPARED \(SQLText.literal($0));" }.joined(separator: " ") + " Then `lindero run`.",
            isBlocker: true)
    }
}
