import PostgresClient
import ReplicationCore

/// `lindero.verification` on a direction's target: where an interrupted comparison goes on, and what the last one said.
public struct VerifyStore: Sendable {
    /// Differences of a table that are listed; all are counted.
    public static let listedDifferences = 1_000
    /// Comparisons of a direction that are kept.
    static let kept = 20

    let connection: PostgresConnection
    let direction: String

    public init(connection: PostgresConnection, direction: String) {
        self.connection = connection
        self.direction = direction
    }

    /// How far a comparison is in one table.
    struct Place: Sendable {
        var walk = 0
        var position: VerifyKey?
        var isFinished = false
        var figures: TableVerification
    }

    public func exists() async throws -> Bool {
        try await connection.hasLindero("verification")
    }

    /// Keeps a second comparison of the direction out until this connection ends.
    func lock() async throws -> Bool {
        try await connection.query(
            "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('lindero.verify ' || $1, 0))::text",
            [.text(direction)]
        ).firstValue == "true"
    }

    // MARK: a run

    /// Takes up the newest comparison that was interrupted, if it was about the same and is young enough; else begins one.
    ///
    /// - Parameter scope: everything that decides what is compared.
    func begin(scope: String, isWhole: Bool, restart: Bool, longestSeconds: Int) async throws -> (id: Int64, isResumed: Bool) {
        let found = try await connection.query(
            """
            SELECT id::text FROM lindero.verification
            WHERE direction = $1 AND id = (SELECT max(id) FROM lindero.verification WHERE direction = $1)
              AND finished_at IS NULL AND scope = \(Self.digest("$2")) AND is_whole = $3::text::boolean
              AND started_at > pg_catalog.clock_timestamp() - $4::text::int * interval '1 second'
            """, [.text(direction), .text(scope), .text("\(isWhole)"), .text("\(longestSeconds)")])
        if !restart, let id = found.firstValue.flatMap({ Int64($0) }) { return (id, true) }
        _ = try await connection.query(
            """
            DELETE FROM lindero.verification WHERE direction = $1 AND id NOT IN (
              SELECT id FROM lindero.verification WHERE direction = $1 ORDER BY id DESC LIMIT \(Self.kept - 1))
            """, [.text(direction)])
        let made = try await connection.query(
            """
            INSERT INTO lindero.verification (direction, scope, is_whole)
            VALUES ($1, \(Self.digest("$2")), $3::text::boolean) RETURNING id::text
            """, [.text(direction), .text(scope), .text("\(isWhole)")])
        return (made.firstValue.flatMap { Int64($0) } ?? 0, false)
    }

    private static func digest(_ parameter: String) -> String {
        "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\(parameter)::text, 'UTF8')), 'hex')"
    }

    func places(_ id: Int64) async throws -> [QualifiedName: Place] {
        var places: [QualifiedName: Place] = [:]
        let result = try await connection.query(
            """
            SELECT schema_name, table_name, walk::text, position::text, rows::text, rechecked::text, differences::text,
              undecided::text, source_lsn::text, (finished_at IS NOT NULL)::text
            FROM lindero.verification_table WHERE verification = $1::text::bigint
            """, [.text("\(id)")])
        for row in result.rows {
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            var place = Place(figures: TableVerification(table: name))
            place.walk = row[2].flatMap { Int($0) } ?? 0
            place.position = row[3].map { VerifyKey(SQLText.elements(ofArray: $0)) }
            place.figures.rows = row[4].flatMap { Int($0) } ?? 0
            place.figures.rechecked = row[5].flatMap { Int($0) } ?? 0
            place.figures.differenceCount = row[6].flatMap { Int($0) } ?? 0
            place.figures.undecided = row[7].flatMap { Int($0) } ?? 0
            place.figures.sourceLSN = row[8].flatMap { LSN($0) } ?? .zero
            place.isFinished = row[9] == "true"
            place.figures.differences = try await differences(id, name)
            places[name] = place
        }
        return places
    }

    private func differences(_ id: Int64, _ table: QualifiedName) async throws -> [RowDifference] {
        try await connection.query(
            """
            SELECT row_key::text, kind, column_names::text FROM lindero.verification_difference
            WHERE verification = $1::text::bigint AND schema_name = $2 AND table_name = $3 ORDER BY id
            """, [.text("\(id)"), .text(table.schema), .text(table.name)]
        ).rows.compactMap { row in
            row[1].flatMap(RowDifference.Kind.init).map {
                RowDifference(
                    key: VerifyKey(SQLText.elements(ofArray: row[0] ?? "{}")), kind: $0,
                    columns: SQLText.elements(ofArray: row[2] ?? "{}"))
            }
        }
    }

    /// Keeps a position, and what was found before it, together.
    ///
    /// - Parameter found: differences since the last time.
    func save(_ id: Int64, _ place: Place, found: some Sequence<RowDifference>) async throws {
        let figures = place.figures
        let table: [PostgresParameter] = [.text("\(id)"), .text(figures.table.schema), .text(figures.table.name)]
        var steps: [PipelineStep] = found.map { difference in
            .query(
                sql: """
                    INSERT INTO lindero.verification_difference
                      (verification, schema_name, table_name, row_key, kind, column_names)
                    VALUES ($1::text::bigint, $2, $3, $4::text[], $5, $6::text[])
                    """,
                parameters: table + [
                    .text(SQLText.arrayLiteral(difference.key.values)), .text(difference.kind.rawValue),
                    .text(SQLText.arrayLiteral(difference.columns)),
                ], parameterTypes: [])
        }
        let counts = [figures.rows, figures.rechecked, figures.differenceCount, figures.undecided]
        steps.append(
            .query(
                sql: """
                    INSERT INTO lindero.verification_table (verification, schema_name, table_name, walk, position, rows,
                      rechecked, differences, undecided, source_lsn, finished_at)
                    VALUES ($1::text::bigint, $2, $3, $4::text::int, $5::text[], $6::text::bigint, $7::text::bigint,
                      $8::text::bigint, $9::text::bigint, $10::text::pg_lsn,
                      CASE WHEN $11::text::boolean THEN pg_catalog.clock_timestamp() END)
                    ON CONFLICT (verification, schema_name, table_name) DO UPDATE SET walk = excluded.walk,
                      position = excluded.position, rows = excluded.rows, rechecked = excluded.rechecked,
                      differences = excluded.differences, undecided = excluded.undecided,
                      source_lsn = excluded.source_lsn, finished_at = excluded.finished_at
                    """,
                parameters: table + [
                    .text("\(place.walk)"), place.position.map { .text(SQLText.arrayLiteral($0.values)) } ?? .null,
                ] + counts.map { .text("\($0)") } + [.text("\(figures.sourceLSN)"), .text("\(place.isFinished)")],
                parameterTypes: []))
        _ = try await connection.run(steps)
    }

    func finish(_ id: Int64, _ result: VerifyResult) async throws {
        _ = try await connection.query(
            """
            UPDATE lindero.verification SET finished_at = pg_catalog.clock_timestamp(), result = $2
            WHERE id = $1::text::bigint
            """, [.text("\(id)"), .text(result.rawValue)])
    }

    // MARK: for status

    /// The newest comparison of the whole direction that came to its end; `nil` when there is none.
    public func last() async throws -> LastVerification? {
        guard try await exists() else { return nil }
        let row = try await connection.query(
            """
            SELECT result, finished_at::text, extract(epoch FROM pg_catalog.clock_timestamp() - started_at)::float8::text,
              (SELECT count(*)::text FROM lindero.verification_table t WHERE t.verification = v.id),
              (SELECT coalesce(sum(differences), 0)::text FROM lindero.verification_table t WHERE t.verification = v.id),
              (SELECT coalesce(sum(rows), 0)::text FROM lindero.verification_table t WHERE t.verification = v.id)
            FROM lindero.verification v WHERE direction = $1 AND is_whole AND finished_at IS NOT NULL
            ORDER BY id DESC LIMIT 1
            """, [.text(direction)]
        ).rows.first
        guard let row, let result = row[0].flatMap(VerifyResult.init), let age = row[2].flatMap({ Double($0) }) else {
            return nil
        }
        return LastVerification(
            direction: direction, result: result, finishedAt: row[1] ?? "", ageSeconds: age,
            tables: row[3].flatMap { Int($0) } ?? 0, differences: row[4].flatMap { Int($0) } ?? 0,
            rows: row[5].flatMap { Int($0) } ?? 0)
    }
}

/// What the last comparison of a whole direction said.
public struct LastVerification: Sendable, Equatable {
    public var direction: String
    public var result: VerifyResult
    public var finishedAt: String
    /// Since it began: what it saw first is that old.
    public var ageSeconds: Double
    public var tables: Int
    public var differences: Int
    public var rows: Int
}
