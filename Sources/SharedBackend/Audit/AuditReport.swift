import PostgresClient
import ReplicationCore

/// What the guard's audit mode recorded: who wrote columns that another side owns.
public struct AuditReport: Sendable, Equatable {
    /// Violations of one kind.
    public struct Line: Sendable, Equatable {
        public var table: QualifiedName
        /// `nil` when the operation itself was not the side's to do: an insert or a delete.
        public var column: String?
        public var side: String
        public var role: String
        public var operation: String
        public var count: Int
        /// ISO 8601, UTC.
        public var firstAt: String
        public var lastAt: String
    }

    /// One write.
    public struct Violation: Sendable, Equatable {
        public var id: Int
        public var occurredAt: String
        public var transactionID: String
        public var table: QualifiedName
        public var operation: String
        public var side: String
        /// `current_user` of the statement.
        public var role: String
        /// The role that logged in.
        public var sessionRole: String
        /// The match columns as a JSON object: holds row values, so not for logs. `nil` for TRUNCATE.
        public var key: String?
        public var columns: [String]
    }

    /// The guard that is on now; only `audit` records anything. `nil` when it is off.
    public var mode: GuardMode?
    /// Writes recorded; one write may stand in several lines, once for each column.
    public var violationCount: Int
    /// By table, column and role; the most frequent first.
    public var lines: [Line]
    public var newest: [Violation]

    private static let instant = #"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#

    /// - Parameters:
    ///   - tables: only these; `nil` for all.
    ///   - newestCount: how many single violations to list.
    /// - Throws: `GuardCommand.Failure.notMigrated`; `PostgresError`.
    public static func read(
        connection: PostgresConnection, tables: [QualifiedName]? = nil, newestCount: Int = 20
    ) async throws -> AuditReport {
        switch try await GuardReader(connection: connection).record() {
        case .missing, .old: throw GuardCommand.Failure.notMigrated
        case .unreadable, .current: break
        }
        var filter = "true"
        var parameters: [PostgresParameter] = []
        if let tables {
            filter = "(schema_name, table_name) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
            parameters = [
                .text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name))),
            ]
        }
        let count = try await connection.query("SELECT count(*) FROM lindero.audit WHERE \(filter)", parameters)
        let lines = try await connection.query(
            """
            SELECT schema_name, table_name, column_name, side, role_name, operation, count(*) AS writes,
                   to_char(min(occurred_at) AT TIME ZONE 'UTC', \(instant)) AS first_at,
                   to_char(max(occurred_at) AT TIME ZONE 'UTC', \(instant)) AS last_at
            FROM lindero.audit LEFT JOIN LATERAL unnest(column_names) AS column_name ON true
            WHERE \(filter)
            GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY writes DESC, 1, 2, 3, 4, 5, 6
            """, parameters)
        let newest = try await connection.query(
            """
            SELECT id, to_char(occurred_at AT TIME ZONE 'UTC', \(instant)) AS at, transaction_id, schema_name, table_name,
                   operation, side, role_name, session_name, row_key, array_to_string(column_names, E'\\x01') AS columns
            FROM lindero.audit WHERE \(filter) ORDER BY id DESC LIMIT \(max(0, newestCount))
            """, parameters)
        return AuditReport(
            mode: try await GuardCommand.state(connection: connection)?.mode, violationCount: Int(count.rows.first?[0] ?? "") ?? 0, lines: lines.rows.map(line),
            newest: newest.rows.map(violation))
    }

    private static func line(_ row: PostgresRow) -> Line {
        Line(
            table: QualifiedName(schema: row["schema_name"] ?? "", name: row["table_name"] ?? ""),
            column: row["column_name"], side: row["side"] ?? "", role: row["role_name"] ?? "",
            operation: row["operation"] ?? "", count: Int(row["writes"] ?? "") ?? 0, firstAt: row["first_at"] ?? "",
            lastAt: row["last_at"] ?? "")
    }

    private static func violation(_ row: PostgresRow) -> Violation {
        Violation(
            id: Int(row["id"] ?? "") ?? 0, occurredAt: row["at"] ?? "", transactionID: row["transaction_id"] ?? "",
            table: QualifiedName(schema: row["schema_name"] ?? "", name: row["table_name"] ?? ""),
            operation: row["operation"] ?? "", side: row["side"] ?? "", role: row["role_name"] ?? "",
            sessionRole: row["session_name"] ?? "", key: row["row_key"],
            columns: (row["columns"] ?? "").split(separator: "\u{1}").map(String.init))
    }
}
