import PostgresClient
import ReplicationCore

/// The direction's replication origin on the target: progress that commits with the data.
struct ProgressOrigin {
    let connection: PostgresConnection
    let direction: String

    private static let firstThatAdvancesWhenAborted = 160_000
    /// The lock that a second session has for as long as it lives: whoever can take it knows that there is none.
    private static let secondLock = "pg_catalog.hashtext('lindero second session'), pg_catalog.hashtext($1)"
    /// Who has it.
    private static let secondHolder = """
        SELECT l.pid::text FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND l.granted AND d.datname = pg_catalog.current_database()
          AND (l.classid, l.objid, l.objsubid) = (pg_catalog.hashtext('lindero second session')::oid, pg_catalog.hashtext($1)::oid, 2)
        """

    /// Takes the origin for this session and reads its progress, in that order: until an earlier worker's sessions
    /// are gone, their last commits may still be under way, and progress read before would be stale.
    ///
    /// - Returns: end of the last applied source commit; `zero` when nothing was applied yet.
    /// - Throws: `PostgresError` 55006 while another session holds the origin, or a second one works for it.
    func acquire() async throws -> LSN {
        try await setUp(try await name())
        let origin: LSN
        do {
            // Told only once it is on disk: the worker before may have left commits that the target shows and its disk lacks.
            origin = try await flush(withSecond: try await requireNoSecond())
        } catch {
            _ = try? await connection.query("SELECT pg_catalog.pg_replication_origin_session_reset()")
            throw error
        }
        // Since PostgreSQL 16 the origin advances with an aborted transaction, too; the row went back with its data. That the
        // first one has been aborted is told by a row without a place.
        let row = try await connection.query("SELECT applied_lsn::text FROM lindero.direction WHERE name = $1", [.text(direction)])
        if let applied = row.firstValue.flatMap({ LSN($0) }) { return applied }
        let isBelieved = await connection.serverVersion < Self.firstThatAdvancesWhenAborted || row.rowCount == 0
        return isBelieved ? origin : .zero
    }

    /// Keeps every worker from streaming for as long as the session lives; one that is just ending is waited for.
    ///
    /// - Throws: as `acquire`.
    func keep() async throws {
        let end = Monotonic.milliseconds() + Self.endingMilliseconds
        while true {
            do {
                _ = try await acquire()
                return
            } catch let error as PostgresError where error.isObjectInUse && Monotonic.milliseconds() < end {
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    private static let endingMilliseconds: Int64 = 5_000

    /// Asked with the first origin taken: who becomes a second session from here on finds that his own first one is gone.
    ///
    /// - Returns: whether there has ever been one.
    private func requireNoSecond() async throws -> Bool {
        let answer = try await connection.query(
            """
            SELECT (pg_catalog.pg_try_advisory_lock(\(Self.secondLock)) AND pg_catalog.pg_advisory_unlock(\(Self.secondLock)))::text,
              EXISTS (SELECT FROM pg_catalog.pg_replication_origin o, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
                AND o.roname = 'lindero_' || d.oid || '_' || $1 || '\(OriginName.secondSuffix)')::text
            """, [.text(direction)], parameterTypes: [OID.text])
        if answer.firstValue == "true" { return answer.rows.first?[1] == "true" }
        let pid = try await connection.query(Self.secondHolder, [.text(direction)]).firstValue ?? "unknown"
        throw PostgresError.server(
            ServerError(
                sqlState: SQLState("55006"),
                message: "session \(pid), the second of an earlier worker of \(direction), still works on the target; if that worker is gone: "
                    + "SELECT pg_terminate_backend(\(pid));"))
    }

    /// Returns once every commit that the direction's origins have marked is on disk, this session's and those before it.
    ///
    /// A commit that waits would not do: one that has written nothing does not wait.
    ///
    /// - Parameter withSecond: whether a second session may have committed.
    /// - Returns: how far the origins have come.
    @discardableResult func flush(withSecond: Bool) async throws -> LSN {
        let first = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_progress(true)::text")
        let second = withSecond ? try await flush(OriginName(try await name()).second) : nil
        return [first, second].compactMap { $0?.firstValue.flatMap { LSN($0) } }.max() ?? .zero
    }

    /// Of an origin that is another session's or nobody's. It stays once it was made: whoever decodes the target's log has to know
    /// what came under it.
    private func flush(_ name: String) async throws -> PostgresResult {
        try await connection.query("SELECT pg_catalog.pg_replication_origin_progress($1, true)::text", [.text(name)])
    }

    /// Makes this session the direction's second one, with an origin of its own.
    ///
    /// - Parameter home: the session that has the first.
    /// - Throws: `PostgresError`, where the server has no room for another origin, or the session at home is gone, and another
    ///   worker may have read its place already, or is on another server, as it may be where an address stands for several.
    func takeSecond(beside home: PostgresConnection) async throws {
        let pid = try await connection.query(
            "SELECT pg_catalog.pg_backend_pid()::text WHERE pg_catalog.pg_try_advisory_lock(\(Self.secondLock))", [.text(direction)]
        ).firstValue
        guard let pid else { throw PostgresError.closed("another session is the second of \(direction)") }
        guard try await home.query(Self.secondHolder, [.text(direction)]).firstValue == pid else {
            throw PostgresError.closed("the two sessions are on different servers")
        }
        let name = SQLText.literal(OriginName(try await name()).second)
        // In one transaction: without room for it, or the right to ask for it from home later, nothing of it is to stay.
        _ = try await connection.execute(
            """
            BEGIN;
            SELECT pg_catalog.pg_replication_origin_create(\(name)) WHERE pg_catalog.pg_replication_origin_oid(\(name)) IS NULL;
            SELECT pg_catalog.pg_replication_origin_progress(\(name), false);
            SELECT pg_catalog.pg_replication_origin_session_setup(\(name));
            COMMIT
            """)
    }

    private func setUp(_ name: String) async throws {
        _ = try await connection.query(
            """
            SELECT pg_catalog.pg_replication_origin_create($1)
            WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL
            """, [.text(name)])
        _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_setup($1)", [.text(name)])
    }

    private func exists(_ name: String) async throws -> Bool {
        try await connection.query("SELECT 1 FROM pg_catalog.pg_replication_origin WHERE roname = $1", [.text(name)]).rowCount > 0
    }

    /// How far the origin that the session holds has come, whether on disk or not.
    static func sessionProgress(_ connection: PostgresConnection) async throws -> LSN {
        let progress = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_progress(false)::text")
        return progress.firstValue.flatMap { LSN($0) } ?? .zero
    }

    /// Forgets the progress.
    ///
    /// - Throws: `ReplicationFailure` with the command to run when the role may not; `PostgresError` 55006 while a
    ///   session holds the origin.
    func drop() async throws {
        let name = OriginName(try await name())
        // The first is held for as long as a worker runs, which has to know of the second until then.
        for name in [name.first, name.second] { try await drop(name) }
    }

    private func drop(_ name: String) async throws {
        // Without one the right to drop it is not needed.
        guard try await exists(name) else { return }
        do {
            _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_drop($1)", [.text(name)])
        } catch {
            guard error.sqlState?.rawValue == "42501" else { throw error }
            throw ReplicationFailure(
                .privileges, "The target still has replication origin \(name) of an earlier copy, and the role may not drop it.",
                nextStep: "Run on the target as a superuser: \(Self.dropSQL(name)) Then start again.", isBlocker: true)
        }
    }

    static func dropSQL(_ name: String) -> String { "SELECT pg_replication_origin_drop(\(SQLText.literal(name)));" }

    /// What a person runs to drop those that there are.
    func dropSQL() async throws -> String {
        let name = OriginName(try await name())
        return Self.dropSQL(name.first) + (try await exists(name.second) ? " " + Self.dropSQL(name.second) : "")
    }

    /// Origins belong to the whole cluster, so the name carries the database's OID: a database that was dropped
    /// and made again must not inherit the old one's progress.
    func name() async throws -> String {
        let oid = try await connection.query(
            "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        return "lindero_\(oid.rows.first?[0] ?? "0")_\(direction)"
    }
}
