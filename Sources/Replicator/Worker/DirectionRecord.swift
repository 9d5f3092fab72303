import PostgresClient
import ReplicationCore

/// The direction's row in the target's `lindero.direction`: what it must recognise when it comes back.
struct DirectionRecord {
    let connection: PostgresConnection
    let settings: DirectionSettings

    struct Row {
        var slot: String
        var systemIdentifier: String
        var startLSN: LSN
    }

    func read() async throws -> Row? {
        let result = try await connection.query(
            "SELECT slot, system_identifier, start_lsn::text FROM lindero.direction WHERE name = $1",
            [.text(settings.name)])
        guard let row = result.rows.first, let lsn = row[2].flatMap({ LSN($0) }) else { return nil }
        return Row(slot: row[0] ?? "", systemIdentifier: row[1] ?? "", startLSN: lsn)
    }

    /// Written once, when a slot is made or adopted.
    func create(systemIdentifier: String, startLSN: LSN) async throws {
        _ = try await connection.query(
            """
            INSERT INTO lindero.direction (name, slot, publication, origin, system_identifier, start_lsn)
            VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.pg_lsn)
            """,
            [
                .text(settings.name), .text(settings.slot), .text(settings.publication), .text(settings.sourceName),
                .text(systemIdentifier), .text(startLSN.description),
            ])
    }

    /// Publishes what the direction is doing, for `status` from another process.
    func note(state: DirectionPhase, problem: String?) async throws {
        _ = try await connection.query(
            """
            UPDATE lindero.direction SET state = $2, problem = $3, updated_at = pg_catalog.clock_timestamp()
            WHERE name = $1
            """, [.text(settings.name), .text(state.rawValue), problem.map { .text($0) } ?? .null])
    }
}
