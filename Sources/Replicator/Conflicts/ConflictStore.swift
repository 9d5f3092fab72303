import PostgresClient
import ReplicationCore

/// Reads `lindero.conflict` of one database.
public struct ConflictStore {
    let connection: PostgresConnection

    public init(connection: PostgresConnection) { self.connection = connection }

    public func exists() async throws(PostgresError) -> Bool {
        try await connection.hasLindero("conflict")
    }

    /// The newest that fit, the oldest of them first.
    public func list(_ filter: ConflictFilter) async throws(PostgresError) -> [RecordedConflict] {
        let (condition, parameters) = Self.condition(filter)
        return try await read("WHERE \(condition) ORDER BY conflict.id DESC LIMIT \(max(0, filter.limit))", parameters).reversed()
    }

    /// How many there are by table, column, policy and state, whatever the limit.
    public func counts(_ filter: ConflictFilter) async throws(PostgresError) -> [ConflictCount] {
        let (condition, parameters) = Self.condition(filter)
        let result = try await connection.query(
            """
            SELECT schema_name, table_name, column_name, policy, state, count(*)::text FROM lindero.conflict
            WHERE \(condition) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3 NULLS FIRST, 4, 5
            """, parameters)
        return result.rows.compactMap { row in
            guard let state = row[4].flatMap(RecordedConflict.State.init) else { return nil }
            return ConflictCount(
                table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), column: row[2], policy: row[3] ?? "",
                state: state, count: row[5].flatMap { Int64($0) } ?? 0)
        }
    }

    /// What waits for a person; by an index over the open ones alone.
    public func queue() async throws(PostgresError) -> ConflictQueue {
        let row = try await connection.query(
            """
            SELECT count(*)::text, extract(epoch FROM pg_catalog.clock_timestamp() - min(recorded_at))::float8::text
            FROM lindero.conflict WHERE state = 'open'
            """
        ).rows.first
        return ConflictQueue(
            openCount: row?[0].flatMap { Int64($0) } ?? 0,
            oldestAgeSeconds: row?[1].flatMap { Double($0) }.map { max(0, $0) })
    }

    /// One conflict with what it is about; `nil` when there is none of that number.
    public func show(_ id: Int64) async throws(PostgresError) -> (conflict: RecordedConflict, values: ConflictValues)? {
        guard try await exists(), let conflict = try await read("WHERE id = $1::text::bigint", [.text("\(id)")]).first else { return nil }
        return (conflict, try await values(id))
    }

    func values(_ id: Int64) async throws(PostgresError) -> ConflictValues {
        let number = PostgresParameter.text("\(id)")
        let key = try await connection.query(
            """
            SELECT k.key, k.value FROM lindero.conflict c, pg_catalog.jsonb_each_text(c.row_key) k
            WHERE c.id = $1::text::bigint ORDER BY k.key COLLATE "C"
            """, [number])
        let values = try await connection.query(
            "SELECT kept_value, lost_value FROM lindero.conflict WHERE id = $1::text::bigint", [number])
        return ConflictValues(
            key: key.rows.map { ($0[0] ?? "", $0[1] ?? "") }, kept: values.rows.first?[0], lost: values.rows.first?[1])
    }

    private static func condition(_ filter: ConflictFilter) -> (sql: String, parameters: [PostgresParameter]) {
        var terms: [String] = []
        var parameters: [PostgresParameter] = []
        func add(_ column: String, _ value: String) {
            parameters.append(.text(value))
            terms.append("\(column) = $\(parameters.count)")
        }
        if let table = filter.table {
            add("schema_name", table.schema)
            add("table_name", table.name)
        }
        if let column = filter.column { add("column_name", column) }
        if !filter.states.isEmpty {
            // As literals, so that the index over the open ones serves.
            terms.append("state IN (\(filter.states.map { SQLText.literal($0.rawValue) }.joined(separator: ", ")))")
        }
        return (terms.isEmpty ? "true" : terms.joined(separator: " AND "), parameters)
    }

    func read(_ rest: String, _ parameters: [PostgresParameter]) async throws(PostgresError) -> [RecordedConflict] {
        let result = try await connection.query(
            """
            SELECT id::text AS id, direction, schema_name, table_name, column_name, kind, policy, winner, loser,
              kept_at::text AS kept_at, lost_at::text AS lost_at, kept_version::text AS kept_version,
              lost_version::text AS lost_version, kept_lsn::text AS kept_lsn, lost_lsn::text AS lost_lsn,
              state, recorded_at::text AS recorded_at, resolved_at::text AS resolved_at, resolved_by, resolution
            FROM lindero.conflict \(rest)
            """, parameters)
        return result.rows.compactMap(Self.conflict)
    }

    private static func conflict(_ row: PostgresRow) -> RecordedConflict? {
        guard let id = row["id"].flatMap({ Int64($0) }), let state = row["state"].flatMap(RecordedConflict.State.init)
        else { return nil }
        func write(_ database: String, _ prefix: String) -> RecordedConflict.Write {
            RecordedConflict.Write(
                database: row[database] ?? "", committedAt: row[prefix + "_at"],
                version: row[prefix + "_version"].flatMap { Int64($0) }, lsn: row[prefix + "_lsn"])
        }
        return RecordedConflict(
            id: id, direction: row["direction"] ?? "",
            table: QualifiedName(schema: row["schema_name"] ?? "", name: row["table_name"] ?? ""),
            column: row["column_name"], kind: row["kind"] ?? "", policy: row["policy"] ?? "",
            kept: write("winner", "kept"), lost: write("loser", "lost"), state: state,
            recordedAt: row["recorded_at"] ?? "", resolvedAt: row["resolved_at"], resolvedBy: row["resolved_by"],
            resolution: row["resolution"])
    }
}
