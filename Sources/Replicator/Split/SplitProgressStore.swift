import PostgresClient
import ReplicationCore

/// The four numbers of a direction, in its row of the target's `lindero.direction`.
struct SplitProgressStore {
    let connection: PostgresConnection
    let direction: String

    /// `nil` while the split has not begun.
    func read() async throws -> SplitProgress? {
        let result = try await connection.query(
            """
            SELECT applied_lsn::text, hybrid_clock::text, causal_lsn::text, causal_clock::text
            FROM lindero.direction WHERE name = $1
            """, [.text(direction)])
        guard let row = result.rows.first, let applied = row[0].flatMap({ LSN($0) }), let seen = row[2].flatMap({ LSN($0) })
        else { return nil }
        return SplitProgress(
            appliedLSN: applied, time: Self.time(row[1]), context: CausalContext(lsn: seen, time: Self.time(row[3])))
    }

    private static func time(_ text: String?) -> PostgresTime { PostgresTime(microseconds: text.flatMap { Int64($0) } ?? 0) }

    /// What a session notes from now on is on its server's disk before it is believed on the other side.
    static func commitDurably(_ connection: PostgresConnection) async throws {
        _ = try await connection.query(
            "SELECT pg_catalog.set_config('synchronous_commit', 'local', false) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'")
    }

    /// Notes where the direction begins, or begins anew.
    func begin(_ progress: SplitProgress) async throws {
        let result = try await connection.query(
            """
            UPDATE lindero.direction SET applied_lsn = $2::text::pg_catalog.pg_lsn, hybrid_clock = $3::text::bigint,
              causal_lsn = $4::text::pg_catalog.pg_lsn, causal_clock = $5::text::bigint
            WHERE name = $1 AND coalesce(applied_lsn, '0/0') <= $2::text::pg_catalog.pg_lsn
            """,
            [
                .text(direction), .text(progress.appliedLSN.description), .text("\(progress.time.microseconds)"),
                .text(progress.context.lsn.description), .text("\(progress.context.time.microseconds)"),
            ])
        guard result.affectedRows == 1 else { throw ProgressError.noRow }
    }

    /// The direction goes on as a replica's, from where it is.
    func end() async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET hybrid_clock = NULL, causal_lsn = NULL, causal_clock = NULL, renewed_at = NULL WHERE name = $1",
            [.text(direction)])
    }

    /// As `FusedStatement`'s: without its row, and where progress would go back, it divides by zero, and
    /// nothing commits.
    static let writeSQL = """
        WITH written AS (
          UPDATE lindero.direction SET applied_lsn = $2, hybrid_clock = $4, causal_lsn = $5, causal_clock = $6
          WHERE name = $1 AND applied_lsn <= $2 RETURNING 1)
        SELECT pg_catalog.pg_replication_origin_xact_setup($2, coalesce($3, pg_catalog.clock_timestamp()))
        FROM (SELECT 1 / count(*) AS found FROM written) AS counted WHERE found = 1
        """
    static let writeTypes: [UInt32] = [OID.text, OID.pgLSN, OID.timestamptz, OID.bigint, OID.pgLSN, OID.bigint]

    static func parameters(_ direction: String, _ progress: SplitProgress, commitTime: PostgresTime?) -> [PostgresParameter] {
        func number(_ value: Int64) -> PostgresParameter { .binary(bigEndian(UInt64(bitPattern: value))) }
        return [
            .text(direction), .binary(bigEndian(progress.appliedLSN.rawValue)),
            commitTime.map { number($0.microseconds) } ?? .null, number(progress.time.microseconds),
            .binary(bigEndian(progress.context.lsn.rawValue)), number(progress.context.time.microseconds),
        ]
    }
}
