import PostgresClient
import ReplicationCore

/// The applying transaction on the target, with the progress that commits together with it.
struct TargetTransaction {
    let connection: PostgresConnection
    let direction: String
    private(set) var isOpen = false
    /// Whether a piece of a large source transaction is in it.
    var hasPiece: Bool { isOpen }

    init(connection: PostgresConnection, direction: String) {
        self.connection = connection
        self.direction = direction
    }

    /// Runs steps, in a transaction begun by the first of them; results of the steps alone.
    mutating func run(_ steps: [PipelineStep]) async throws -> [PostgresResult] {
        guard !isOpen else { return try await connection.run(steps) }
        isOpen = true
        do {
            let results = try await connection.run([.query(sql: "BEGIN", parameters: [], parameterTypes: [])] + steps)
            return Array(results.dropFirst())
        } catch var failure as PipelineError {
            // Counted in the caller's steps.
            failure.stepIndex -= 1
            throw failure
        }
    }

    /// Commits data and progress together; the original commit time is kept.
    ///
    /// - Parameter endLSN: end of the last source commit that the transaction holds.
    /// - Parameter figures: what the worker measured, left on the target for readers elsewhere.
    mutating func commit(
        endLSN: LSN, commitTime: PostgresTime?, heartbeat: Heartbeat?, figures: LiveFigures = LiveFigures()
    ) async throws {
        var steps: [PipelineStep] = []
        if heartbeat != nil || !isOpen {
            // A transaction that writes nothing leaves no commit record, and so no progress.
            steps.append(Self.seen(direction: direction, heartbeat: heartbeat, endLSN: endLSN, figures: figures))
        }
        let time = commitTime ?? heartbeat?.sentAt
        steps.append(
            .query(
                sql: "SELECT pg_catalog.pg_replication_origin_xact_setup($1, \(time == nil ? "clock_timestamp()" : "$2"))",
                parameters: [.binary(bigEndian(endLSN.rawValue))]
                    + (time.map { [.binary(bigEndian(UInt64(bitPattern: $0.microseconds)))] } ?? []),
                parameterTypes: [OID.pgLSN] + (time == nil ? [] : [OID.timestamptz])))
        steps.append(.query(sql: "COMMIT", parameters: [], parameterTypes: []))
        do {
            _ = try await run(steps)
            isOpen = false
        } catch let failure as PipelineError {
            throw failure.error
        }
    }

    /// Ends the transaction without effect. A connection that cannot is left to be closed.
    mutating func rollBack() async {
        guard isOpen else { return }
        isOpen = false
        _ = try? await connection.execute("ROLLBACK")
    }

    private static func seen(
        direction: String, heartbeat: Heartbeat?, endLSN: LSN, figures: LiveFigures
    ) -> PipelineStep {
        let time = heartbeat.map { PostgresParameter.binary(bigEndian(UInt64(bitPattern: $0.sentAt.microseconds))) }
        return .query(
            sql: """
                INSERT INTO lindero.heartbeat AS known (direction, source_lsn, sent_at, seen_at, p50_ms, p95_ms, p99_ms, rows_per_second)
                VALUES ($1, $2, coalesce($3, clock_timestamp()), clock_timestamp(), $4, $5, $6, $7)
                ON CONFLICT (direction) DO UPDATE SET source_lsn = excluded.source_lsn,
                  sent_at = coalesce($3, known.sent_at),
                  seen_at = CASE WHEN $3 IS NULL THEN known.seen_at ELSE excluded.seen_at END,
                  p50_ms = excluded.p50_ms, p95_ms = excluded.p95_ms, p99_ms = excluded.p99_ms,
                  rows_per_second = excluded.rows_per_second
                """,
            parameters: [.text(direction), .binary(bigEndian(endLSN.rawValue)), time ?? .null]
                + figures.values.map { value in value.map { .binary(bigEndian($0.bitPattern)) } ?? .null },
            parameterTypes: [OID.text, OID.pgLSN, OID.timestamptz] + figures.values.map { _ in OID.float8 })
    }
}

/// A worker's own measurements; `nil` until there are any.
struct LiveFigures: Sendable {
    var p50Milliseconds: Double?
    var p95Milliseconds: Double?
    var p99Milliseconds: Double?
    var rowsPerSecond: Double?

    var values: [Double?] { [p50Milliseconds, p95Milliseconds, p99Milliseconds, rowsPerSecond] }
}

/// OIDs of the built-in types that Lindero itself passes.
enum OID {
    static let text: UInt32 = 25
    static let float8: UInt32 = 701
    static let timestamptz: UInt32 = 1184
    static let pgLSN: UInt32 = 3220
}

/// Network byte order, as binary parameters want it.
func bigEndian(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
