import PostgresClient
import ReplicationCore

/// Makes sure that a side has been read past the moment when the barrier was asked for.
///
/// The message is committed by a session of its own, and flushed: with it everything that committed before is sent. The
/// server's insert position would not do: while nobody commits, what lies before it may stay unsent.
struct SplitBarrier {
    static let messagePrefix = "lindero.barrier"
    /// What rows may be held for, while the side is read on: gladly, and if it can't be helped.
    private static let nearMilliseconds: Int64 = 200
    private static let farMilliseconds: Int64 = 5_000

    let connection: PostgresConnection
    let side: Side
    /// The side that the direction reads.
    let reading: Side
    let ledger: SplitLedger
    /// What the last one took.
    private var lastMilliseconds = Int64.max

    init(connection: PostgresConnection, side: Side, reading: Side, ledger: SplitLedger) {
        self.connection = connection
        self.side = side
        self.reading = reading
        self.ledger = ledger
    }

    static func prepare(_ connection: PostgresConnection) async throws {
        // Flushed here, whatever is asked of ordinary commits; standbys need not have it.
        _ = try await connection.execute("SET synchronous_commit = local")
        try await connection.prepare(
            "lindero_barrier", "SELECT pg_catalog.pg_logical_emit_message(true, '\(messagePrefix)', '')::text")
    }

    /// Gets near, while no rows are held: a backlog of the side must not keep its writers waiting.
    mutating func approach() async throws {
        guard lastMilliseconds > Self.nearMilliseconds else { return }
        try await ledger.waitUntilNear(try await mark(), on: side, reading: reading)
        while lastMilliseconds > Self.nearMilliseconds {
            let before = lastMilliseconds
            try await pass(holdsRows: false)
            // The way is that long, or the side is written as fast as it is read: it gets no nearer.
            if lastMilliseconds < Self.farMilliseconds, lastMilliseconds > before / 2 { return }
        }
    }

    mutating func pass(holdsRows: Bool = true) async throws {
        let start = Monotonic.milliseconds()
        try await ledger.waitForPassage(of: try await mark(), on: side, reading: reading, holdsRows: holdsRows)
        lastMilliseconds = Monotonic.milliseconds() - start
    }

    /// Commits a message; where it stands in the log.
    private func mark() async throws -> LSN {
        let step = PipelineStep.execute(name: "lindero_barrier", parameters: [], binaryResult: false)
        let result: [PostgresResult]
        do {
            result = try await connection.run([step])
        } catch let failure as PipelineError {
            throw failure.error
        }
        guard let lsn = result.first?.firstValue.flatMap({ LSN($0) }) else {
            throw PostgresError.protocolViolation("a logical message without a position")
        }
        return lsn
    }
}
