import PostgresClient
import ReplicationCore

/// Lets one worker at a time prepare a target, and only after every session of an earlier one has ended.
///
/// A killed worker's sessions may outlive it: one that waits for its client ends at once, but one that builds an index
/// or commits a part goes on. What it does then must not happen behind the back of the next worker.
struct CopyGate {
    /// How long another session may stay before that is an error.
    static let patienceMilliseconds: Int64 = 30_000
    private static let owner = "pg_catalog.hashtext('lindero prepare'), pg_catalog.hashtext($1)"
    private static let member = "pg_catalog.hashtext('lindero prepare session'), pg_catalog.hashtext($1)"

    let settings: DirectionSettings

    /// Waits until nobody else prepares this direction. Holds until the connection ends.
    func enter(_ connection: PostgresConnection) async throws {
        try await take("pg_try_advisory_lock(\(Self.owner))", connection)
        try await take("pg_try_advisory_lock(\(Self.member))", connection)
        _ = try await connection.query("SELECT pg_catalog.pg_advisory_unlock(\(Self.member))", [.text(settings.name)])
    }

    /// Makes a session one whose end the next worker waits for.
    func join(_ connection: PostgresConnection) async throws {
        _ = try await connection.query(
            "SELECT pg_catalog.pg_advisory_lock_shared(\(Self.member))::text", [.text(settings.name)])
        if await connection.serverVersion >= 140_000 {
            // So that a long statement ends soon after its worker. Not every platform can.
            _ = try? await connection.execute("SET client_connection_check_interval = '1s'")
        }
    }

    private func take(_ function: String, _ connection: PostgresConnection) async throws {
        let end = Monotonic.milliseconds() + Self.patienceMilliseconds
        while true {
            let taken = try await connection.query("SELECT pg_catalog.\(function)::text", [.text(settings.name)]).firstValue
            if taken == "true" { return }
            guard Monotonic.milliseconds() < end else {
                throw ReplicationFailure(
                    .slotInUse,
                    "Another worker is preparing \(settings.targetName) for \(settings.name), or a session of one that ended still works.",
                    nextStep: "Stop the other worker, or wait, then run `lindero run` again.", isBlocker: true)
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
