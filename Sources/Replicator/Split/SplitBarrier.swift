import PostgresClient
import ReplicationCore

/// Makes sure that a side has been read past the moment when the barrier was asked for.
///
/// The message is committed by a session of its own, and flushed: with it everything that committed before is sent. The
/// server's insert position would not do: while nobody commits, what lies before it may stay unsent.
struct SplitBarrier {
    static let messagePrefix = "lindero.barrier"
    /// A session that stays idle in its transaction for longer is ended by its server, which frees the rows: this process may
    /// have been cut off. While it is not, it says so in time.
    static let heldMilliseconds = 15_000
    static let signMilliseconds = heldMilliseconds / 3

    let connection: PostgresConnection
    let side: Side
    /// The side that the direction reads.
    let reading: Side
    let ledger: SplitLedger
    /// Whose transaction holds rows meanwhile; `nil` where none does.
    let holder: PostgresConnection?
    /// How often the holder is heard of while it holds rows.
    var signMilliseconds = Self.signMilliseconds
    private var way = BarrierApproach()

    init(connection: PostgresConnection, side: Side, reading: Side, ledger: SplitLedger, holder: PostgresConnection? = nil) {
        self.connection = connection
        self.side = side
        self.reading = reading
        self.ledger = ledger
        self.holder = holder
    }

    static func prepare(_ connection: PostgresConnection) async throws {
        // Flushed here, whatever is asked of ordinary commits; standbys need not have it.
        _ = try await connection.execute("SET synchronous_commit = local")
        try await connection.prepare(
            "lindero_barrier", "SELECT pg_catalog.pg_logical_emit_message(true, '\(messagePrefix)', '')::text")
    }

    /// Gets near, while no rows are held: a backlog of the side must not keep its writers waiting.
    ///
    /// - Returns: whether that was necessary.
    @discardableResult
    mutating func approach() async throws -> Bool {
        way.begin()
        guard way.goesOn else { return false }
        try await ledger.waitUntilNear(try await mark(), on: side, reading: reading)
        while way.goesOn { try await pass(holdsRows: false) }
        return true
    }

    mutating func pass(holdsRows: Bool = true) async throws {
        let start = Monotonic.milliseconds()
        let lsn = try await mark()
        // However long a pass takes: were it ended for that, the next one would take as long.
        try await ledger.waitForPassage(
            of: lsn, on: side, reading: reading, holdsRows: holdsRows,
            SignOfLife(of: holdsRows ? holder : nil, everyMilliseconds: signMilliseconds))
        way.notePass(milliseconds: Monotonic.milliseconds() - start)
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
