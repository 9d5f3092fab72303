import PostgresClient
import ReplicationCore

/// `lindero.phase` in the origin database.
public struct PhaseStore: Sendable {
    let connection: PostgresConnection

    public init(connection: PostgresConnection) { self.connection = connection }

    /// A row says what this Lindero does not know.
    public struct UnknownWord: Error, Sendable, CustomStringConvertible {
        public static let code = "phase_unknown"
        public let word: String
        public var description: String {
            "lindero.phase says \"\(word)\", which this Lindero does not know. Use the Lindero that wrote it."
        }
    }

    /// One row, for people.
    public struct Entry: Sendable {
        public var record: PhaseRecord
        public var operatorName: String
        public var beganAt: String
        /// Seconds it took, or that it takes so far.
        public var seconds: Double
        public var figures: String
    }

    /// `nil` before the first move, also where there is no schema `lindero` yet.
    ///
    /// - Throws: `UnknownWord`, `PostgresError`.
    public func read() async throws -> PhaseState? {
        guard try await exists() else { return nil }
        let result = try await connection.query(
            """
            WITH last AS (SELECT * FROM lindero.phase ORDER BY move DESC, number DESC LIMIT 1),
              settled AS (SELECT to_phase FROM lindero.phase WHERE work = 'settle' AND ended_at IS NOT NULL
                          ORDER BY move DESC LIMIT 1)
            SELECT p.move::text, p.number::text, p.from_phase, p.to_phase, p.step, p.work, p.worker,
                   (p.ended_at IS NOT NULL)::text, coalesce((SELECT to_phase FROM settled), (
                     SELECT from_phase FROM lindero.phase ORDER BY move, number LIMIT 1))
            FROM lindero.phase p, last WHERE p.move = last.move AND p.number IN (1, last.number) ORDER BY p.number
            """)
        guard let first = result.rows.first, let last = result.rows.last else { return nil }
        return PhaseState(settled: first[8].flatMap { Phase(rawValue: $0) }, first: try record(first), last: try record(last))
    }

    /// The works of the last move that were begun, in order.
    public func entries() async throws -> [Entry] {
        guard try await exists() else { return [] }
        return try await connection.query(
            """
            SELECT move::text, number::text, from_phase, to_phase, step, work, worker, (ended_at IS NOT NULL)::text, operator,
                   to_char(began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                   extract(epoch FROM coalesce(ended_at, pg_catalog.clock_timestamp()) - began_at)::text, figures::text
            FROM lindero.phase WHERE move = (SELECT max(move) FROM lindero.phase) ORDER BY number
            """
        ).rows.map { row in
            Entry(
                record: try record(row), operatorName: row[8] ?? "", beganAt: row[9] ?? "",
                seconds: row[10].flatMap { Double($0) } ?? 0, figures: row[11] ?? "{}")
        }
    }

    private func exists() async throws -> Bool {
        try await connection.hasLindero("phase")
    }

    public func begin(_ record: PhaseRecord, operator name: String) async throws {
        _ = try await connection.query(
            """
            INSERT INTO lindero.phase (move, number, from_phase, to_phase, step, work, worker, operator)
            VALUES ($1::text::int, $2::text::int, $3, $4, $5, $6, $7, $8)
            """,
            [
                .text("\(record.move)"), .text("\(record.number)"), .text(record.from.rawValue), .text(record.to.rawValue),
                .text(record.step.rawValue), .text(record.work.rawValue), .text(record.worker.rawValue), .text(name),
            ])
    }

    /// - Parameter figures: a JSON object of what was measured.
    public func end(_ record: PhaseRecord, figures: String) async throws {
        _ = try await connection.query(
            """
            UPDATE lindero.phase SET ended_at = pg_catalog.clock_timestamp(), figures = $3::text::jsonb
            WHERE move = $1::text::int AND number = $2::text::int
            """, [.text("\(record.move)"), .text("\(record.number)"), .text(figures)])
    }

    private func record(_ row: PostgresRow) throws -> PhaseRecord {
        func word<Word: RawRepresentable>(_ index: Int) throws -> Word where Word.RawValue == String {
            let text = row[index] ?? ""
            guard let word = Word(rawValue: text) else { throw UnknownWord(word: text) }
            return word
        }
        return PhaseRecord(
            move: row[0].flatMap { Int($0) } ?? 0, number: row[1].flatMap { Int($0) } ?? 0, from: try word(2), to: try word(3),
            step: try word(4), work: try word(5), worker: try word(6), isEnded: row[7] == "true")
    }
}
