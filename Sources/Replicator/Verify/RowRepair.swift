import PostgresClient
import ReplicationCore

/// Mends rows of a replica by the source's values, while the stream runs.
///
/// The transaction that mends a row holds the direction's progress row, which every applying transaction writes last: so the
/// target stands at one position of the source meanwhile. The source's row has the same version before that position was
/// passed and now; so what is written is the row at that very position, and whatever the stream brings next comes after it.
public struct RowRepair: Sendable {
    public enum Outcome: Sendable, Equatable {
        case mended
        /// Nothing to do any more.
        case equal
        /// Somebody writes the row all the time.
        case busy
        /// The target does not take it; why, without values.
        case refused(String)
    }

    static let attempts = 10
    /// How long the stream may be held up for one row.
    static let holdMilliseconds: Int64 = 2_000

    let direction: VerifyDirection
    /// For reading.
    let pair: VerifyPair
    /// The target's connection is the applier's kind: neither triggers nor foreign keys fire.
    let control: VerifyPair

    /// Runs `body` with connections for mending.
    ///
    /// - Throws: `VerifyError.repairNeedsReplica`.
    public static func with<Result: Sendable>(
        _ settings: DirectionSettings, _ body: (RowRepair) async throws -> Result
    ) async throws -> Result {
        let direction = VerifyDirection(
            source: settings.sourceName, target: settings.targetName, backend: settings.backend)
        guard direction.backend == .replica else { throw VerifyError.repairNeedsReplica }
        var target = settings.target
        target.settings += [(name: "session_replication_role", value: "replica")]
        let options = target
        return try await PostgresConnection.with(settings.source) { source in
            try await PostgresConnection.with(options) { target in
                let pair = try await VerifyPair.connect(settings.source, settings.target)
                let repair = RowRepair(
                    direction: direction, pair: pair, control: VerifyPair(source: source, target: target))
                do {
                    let result = try await body(repair)
                    await pair.close()
                    return result
                } catch {
                    await pair.close()
                    throw error
                }
            }
        }
    }

    /// Mends one row.
    public func mend(_ key: VerifyKey, of table: VerifyTable) async throws -> Outcome {
        let sql = VerifySQL(table: table, seed: 0, differsInEncoding: false)
        var schedule = WaitSchedule()
        for _ in 0..<Self.attempts {
            do {
                if let outcome = try await attempt(key, sql) { return outcome }
            } catch let error as PostgresError {
                try await control.target.rollback()
                guard case .server(let server) = error else { throw error }
                // Somebody has the row, or one with its key.
                let isBusy = error.isTransient || server.sqlState.rawValue == "55P03"
                guard isBusy else { return .refused("\(error)") }
            } catch {
                try await control.target.rollback()
                throw error
            }
            try await Task.sleep(for: .milliseconds(schedule.nextMilliseconds()))
        }
        return .busy
    }

    /// `nil` when it has to be tried again.
    private func attempt(_ key: VerifyKey, _ sql: VerifySQL) async throws -> Outcome? {
        let before = try await pair.target.read(sql, [key], .target)[key]?.reading
        guard try await HiddenCommits(connection: control.source).settle() else { return nil }
        let source = try await pair.source.read(sql, [key], .source)[key]?.reading
        if before?.columns == source?.columns { return .equal }
        _ = try await MarkerWait(
            direction: direction.name, source: control.source, target: control.target
        ).pass()
        _ = try await control.target.execute(
            // Should this process stand still now, the stream must not.
            "BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'")
        _ = try await control.target.query(
            "SELECT 1 FROM lindero.direction WHERE name = $1 FOR UPDATE", [.text(direction.name)])
        _ = try await control.target.execute("SET LOCAL lock_timeout = '500ms'")
        guard try await write(key, sql, before: before, source: source) else {
            try await control.target.rollback()
            return nil
        }
        _ = try await control.target.execute("COMMIT")
        return .mended
    }

    /// Writes the row, if both sides still are what they were.
    private func write(
        _ key: VerifyKey, _ sql: VerifySQL, before: RowReading?, source: RowReading?
    ) async throws -> Bool {
        let keys = [key].parameters(sql.table)
        let locked = try await control.target.query(sql.lock, keys).firstValue
        guard locked == before?.version else { return false }
        // One that somebody else has locked is passed over, and looks as if it were not there.
        if locked == nil, try await control.target.query(sql.read(.target), keys).rowCount > 0 { return false }
        let hidden = HiddenCommits(connection: control.source, limitMilliseconds: Self.holdMilliseconds)
        guard try await hidden.settle() else { return false }
        var columns = sql.table.columns
        if let before, let source {
            columns = columns.indices.filter { source.columns[$0] != before.columns[$0] }.map { columns[$0] }
        }
        let row = try await control.source.query(sql.values(columns, .source), keys).rows.first
        guard row?[0] == source?.version else { return false }
        let values = columns.indices.map { index in row?[index + 1].map { PostgresParameter.text($0) } ?? .null }
        let result: PostgresResult
        if row == nil {
            result = try await control.target.query(RepairSQL.delete(sql.table), key.parameters)
        } else if before == nil {
            result = try await control.target.query(RepairSQL.insert(sql.table, columns), values)
        } else {
            result = try await control.target.query(RepairSQL.update(sql.table, columns), values + key.parameters)
        }
        return result.affectedRows == 1
    }
}

extension VerifyKey {
    fileprivate var parameters: [PostgresParameter] { values.map { .text($0) } }
}

/// Statements for one row; a parameter takes its column's own type.
private enum RepairSQL {
    static func delete(_ table: VerifyTable) -> String {
        "DELETE FROM \(table.name.sql) WHERE \(condition(table, first: 1))"
    }

    static func insert(_ table: VerifyTable, _ columns: [VerifyTable.Column]) -> String {
        let values = columns.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        return "INSERT INTO \(table.name.sql) (\(SQLText.list(columns.map(\.name)))) OVERRIDING SYSTEM VALUE VALUES (\(values))"
    }

    static func update(_ table: VerifyTable, _ columns: [VerifyTable.Column]) -> String {
        let values = columns.enumerated().map { "\(SQLText.identifier($1.name)) = $\($0 + 1)" }.joined(separator: ", ")
        return "UPDATE \(table.name.sql) SET \(values) WHERE \(condition(table, first: columns.count + 1))"
    }

    private static func condition(_ table: VerifyTable, first: Int) -> String {
        table.key.enumerated().map { "\(SQLText.identifier($1.name)) = $\(first + $0)::\($1.targetType)" }
            .joined(separator: " AND ")
    }
}
