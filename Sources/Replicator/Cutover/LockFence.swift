import PostgresClient
import ReplicationCore

/// A fence around tables: a lock that every writer waits at, superusers and owners too, and that readers pass.
///
/// It is a transaction of one session. So the server lifts it by itself when the session dies, and when the transaction has
/// lasted too long; and what comes with its end (a refusal) comes in the same moment, or not at all.
struct LockFence {
    let connection: PostgresConnection
    let tables: [QualifiedName]
    /// Conflicts with every write, and suffices to make triggers.
    var lockMode = "SHARE ROW EXCLUSIVE"
    let processID: Int
    /// A lock that we wait for longer than this could make the server end a writer instead of us, as a deadlock's victim.
    private let longestWaitMilliseconds: Int

    /// - Parameter options: a session of its own.
    static func open(_ options: ConnectionOptions, tables: [QualifiedName]) async throws(PostgresError) -> LockFence {
        let connection = try await PostgresConnection.connect(options)
        do throws(PostgresError) {
            return try await LockFence(connection, tables: tables)
        } catch {
            await connection.close()
            throw error
        }
    }

    private init(_ connection: PostgresConnection, tables: [QualifiedName]) async throws(PostgresError) {
        self.connection = connection
        self.tables = tables.sorted()
        let row = try await connection.query(
            "SELECT pg_catalog.pg_backend_pid()::text, setting FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'"
        ).rows.first
        processID = row?[0].flatMap { Int($0) } ?? 0
        do throws(PostgresError) {
            // Then a deadlock is found by us first, and an autovacuum that is in the way is told to go at once.
            _ = try await connection.execute("SET deadlock_timeout = '20ms'")
            longestWaitMilliseconds = .max
        } catch {
            guard error.sqlState?.class == "42" else { throw error }
            longestWaitMilliseconds = max(1, (row?[1].flatMap { Int($0) } ?? 1_000) / 2)
        }
    }

    /// Tries once.
    ///
    /// - Parameters:
    ///   - limitMilliseconds: for all locks together.
    ///   - lifeMilliseconds: after this the server lifts it.
    /// - Returns: false when somebody still writes; nothing is held then.
    func take(limitMilliseconds: Int, lifeMilliseconds: Int) async throws(PostgresError) -> Bool {
        let wait = min(limitMilliseconds, longestWaitMilliseconds)
        var script = """
            BEGIN; SET LOCAL lock_timeout = \(wait); SET LOCAL statement_timeout = \(limitMilliseconds);
            SET LOCAL idle_in_transaction_session_timeout = \(lifeMilliseconds);
            """
        if await connection.serverVersion >= 170_000 { script += "SET LOCAL transaction_timeout = \(lifeMilliseconds)" }
        _ = try await connection.execute(script)
        do throws(PostgresError) {
            let names = tables.map(\.sql).joined(separator: ", ")
            _ = try await connection.execute("LOCK TABLE \(names) IN \(lockMode) MODE", timeoutMilliseconds: limitMilliseconds + 5_000)
            return true
        } catch {
            try await connection.rollback()
            switch error.sqlState?.rawValue {
            case "55P03", "57014", "40P01": return false
            default: throw error
            }
        }
    }

    /// Has the end of the fence begin a refusal: see `WriteRefusal`.
    func refuse(_ refusal: WriteRefusal, lifeMilliseconds: Int) async throws(PostgresError) {
        _ = try await connection.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = \(lifeMilliseconds)")
        for statement in try await refusal.creation(on: connection) { _ = try await connection.execute(statement) }
    }

    /// Whether its session is alive: the server ends it with the fence.
    func stands() async -> Bool { (try? await connection.query("SELECT 1")) != nil }

    /// Ends it, and lets what was prepared become true.
    func lift() async throws(PostgresError) { _ = try await connection.execute("COMMIT") }

    /// Ends it as if it had never been.
    func drop() async {
        // A session that does not answer is closed, which lifts it too.
        do { try await connection.rollback() } catch { await connection.close() }
    }
}
