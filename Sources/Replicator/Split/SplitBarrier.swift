import PostgresClient
import ReplicationCore

/// Makes sure that a side has been read past the moment when the barrier was asked for.
///
/// The message is committed by a session of its own, and flushed: with it everything that committed before is sent. The
/// server's insert position would not do: while nobody commits, what lies before it may stay unsent.
struct SplitBarrier: Sendable {
    static let messagePrefix = "lindero.barrier"

    let connection: PostgresConnection
    let side: Side
    let ledger: SplitLedger

    static func prepare(_ connection: PostgresConnection) async throws {
        // Flushed here, whatever is asked of ordinary commits; standbys need not have it.
        _ = try await connection.execute("SET synchronous_commit = local")
        try await connection.prepare(
            "lindero_barrier", "SELECT pg_catalog.pg_logical_emit_message(true, '\(messagePrefix)', '')::text")
    }

    func pass() async throws {
        let step = PipelineStep.execute(name: "lindero_barrier", parameters: [], binaryResult: false)
        let result = try await connection.run([step])
        guard let lsn = result.first?.firstValue.flatMap({ LSN($0) }) else {
            throw PostgresError.protocolViolation("a logical message without a position")
        }
        try await ledger.waitForPassage(of: lsn, on: side)
    }
}
