import PostgresClient
import ReplicationCore
import TestSupport

@testable import Replicator

/// A database with the schema lindero, a table with a shared column, and conflicts as the worker would record them.
struct ConflictScene {
    let options: ConnectionOptions
    let connection: PostgresConnection

    static let schema = """
        CREATE TABLE public."Reservas" (
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, phone text,
            nights smallint, code char(5), paid boolean, at timestamptz, data jsonb);
        INSERT INTO public."Reservas" ("bookingId", phone, nights, code, paid, at, data)
        VALUES ('b-1', '111', 3, 'ab', true, '2026-01-02 03:04:05+00', '{"a": [1, 2]}'), ('b-2', '111', 3, 'ab', NULL, NULL, NULL);
        """

    init(schema: String = schema) async throws {
        options = ConnectionOptions(try await PostgresCluster.shared("target").createDatabase(prefix: "conf"))
        connection = try await PostgresConnection.connect(options)
        _ = try await Migrator(connection: connection).migrate()
        _ = try await connection.execute(schema)
    }

    /// - Returns: the number, `nil` when the same loser is on record already.
    @discardableResult
    func record(
        key: String = #"{"bookingId": "b-1"}"#, column: String? = "phone", kept: String? = "111", lost: String? = "222",
        kind: String = "column", policy: String = "queue", state: String = "open", lsn: String = "0/10", position: Int = 0,
        table: String = "Reservas"
    ) async throws -> Int64? {
        let result = try await connection.query(
            """
            INSERT INTO lindero.conflict (direction, schema_name, table_name, row_key, column_name, kind, policy, winner,
              loser, kept_value, lost_value, kept_at, lost_at, kept_lsn, lost_lsn, lost_position, state)
            VALUES ('bot->sync', 'public', $1, $2::text::jsonb, $3, $4, $5, 'sync', 'bot', $6, $7, now(), now(), '0/20',
              $8::text::pg_lsn, $10::text::bigint, $9) ON CONFLICT DO NOTHING RETURNING id::text
            """,
            [
                .text(table), .text(key), column.map { .text($0) } ?? .null, .text(kind), .text(policy),
                kept.map { .text($0) } ?? .null, lost.map { .text($0) } ?? .null, .text(lsn), .text(state),
                .text("\(position)"),
            ])
        return result.firstValue.flatMap { Int64($0) }
    }

    var resolver: ManualResolver { ManualResolver(connection: connection) { _, column in column != "foreign" } }
    var store: ConflictStore { ConflictStore(connection: connection) }

    func value(_ sql: String) async throws -> String? { try await connection.execute(sql).firstValue }

    func phone(_ key: String = "b-1") async throws -> String? {
        try await value("SELECT phone FROM public.\"Reservas\" WHERE \"bookingId\" = '\(key)'")
    }

    func state(_ id: Int64) async throws -> RecordedConflict.State? { try await store.show(id)?.conflict.state }
}
