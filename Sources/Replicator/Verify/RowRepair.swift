import PostgresClient
import ReplicationCore

/// Mends rows that differ, while the streams run: of a replica by the source's values, of a split as `SplitRowRepair` says.
///
/// Of a replica: the transaction that mends a row holds the direction's progress row, which every applying transaction writes last: so the
/// target stands at one position of the source meanwhile. The source's row has the same version before that position was
/// passed and now; so what is written is the row at that very position, and whatever the stream brings next comes after it.
public struct RowRepair: Sendable {
    public enum Outcome: Sendable, Equatable {
        case mended
        /// Nothing to do any more.
        case equal
        /// Somebody writes the row all the time.
        case busy
        /// The server does not take it; why, without values.
        case refused(String)
        /// No rule says what shall stand, but for these columns.
        case undecided([RepairObstacle], mended: [String])
    }

    static let attempts = 10
    /// How long the stream may be held up for one row.
    static let holdMilliseconds: Int64 = 2_000

    let direction: VerifyDirection
    /// For reading.
    let pair: VerifyPair
    /// The target's connection is the applier's kind: neither triggers nor foreign keys fire. (Of a replica.)
    let control: VerifyPair
    /// `nil` for a replica.
    let split: SplitRowRepair?
    private let differsInEncoding: Bool

    /// Runs `body` with connections for mending.
    ///
    /// - Parameter taken: in a split, the database whose values stand where no rule says which.
    public static func with<Result: Sendable>(
        _ settings: DirectionSettings, taking taken: String? = nil, _ body: (RowRepair) async throws -> Result
    ) async throws -> Result {
        var pairs: [VerifyPair] = []
        do {
            pairs.append(try await VerifyPair.connect(settings.source, settings.target))
            let isSplit = settings.backend == .split
            pairs.append(
                try await VerifyPair.open(settings.source, isSplit ? settings.target : writing(settings.target)))
            if isSplit {
                // What is written over is kept there.
                for (connection, name) in [(pairs[1].source, settings.sourceName), (pairs[1].target, settings.targetName)] {
                    guard try await Migrator(connection: connection).plan().isEmpty else { throw VerifyError.notMigrated(database: name) }
                }
                // The comparison may have taken long.
                try await SplitIdentity(forward: settings, sides: SidePair(origin: pairs[1].source, other: pairs[1].target)).require()
                pairs.append(try await VerifyPair.open(writing(settings.source), writing(settings.target)))
            }
            let result = try await body(try await RowRepair(settings, taken, pairs))
            for pair in pairs { await pair.close() }
            return result
        } catch {
            for pair in pairs { await pair.close() }
            throw error
        }
    }

    private static func writing(_ options: ConnectionOptions) -> ConnectionOptions {
        var options = options
        options.settings += [(name: "session_replication_role", value: "replica")]
        return options
    }

    /// - Parameter pairs: for reading, for control, and for writing in a split.
    private init(_ settings: DirectionSettings, _ taken: String?, _ pairs: [VerifyPair]) async throws {
        direction = VerifyDirection(source: settings.sourceName, target: settings.targetName, backend: settings.backend)
        (pair, control) = (pairs[0], pairs[1])
        split =
            pairs.count < 3
            ? nil
            : SplitRowRepair(
                direction: direction, policy: settings.policy, taken: taken, pair: pair, control: control, writers: pairs[2])
        let encodings = "SELECT pg_catalog.getdatabaseencoding()"
        differsInEncoding = try await pair.source.query(encodings).firstValue != pair.target.query(encodings).firstValue
    }

    /// Mends one row.
    public func mend(_ key: VerifyKey, of table: VerifyTable) async throws -> Outcome {
        let sql = VerifySQL(table: table, seed: 0, differsInEncoding: differsInEncoding)
        var schedule = WaitSchedule()
        for _ in 0..<Self.attempts {
            do {
                let outcome = if let split { try await split.attempt(key, sql) } else { try await attempt(key, sql) }
                if let outcome { return outcome }
            } catch let error as PostgresError {
                try await control.target.rollback()
                guard case .server(let server) = error else { throw error }
                // Somebody has the row, or one with its key, or keeps its transaction from ending.
                let isBusy = error.isTransient || ["55P03", "57014"].contains(server.sqlState.rawValue)
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
        let locked = try await control.target.query(sql.lock(.target), keys).firstValue
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
        let statements = RepairSQL(table: sql.table, side: .target)
        let names = columns.map(\.name)
        let result: PostgresResult
        if row == nil {
            result = try await control.target.query(statements.delete, key.parameters)
        } else if before == nil {
            result = try await control.target.query(statements.insert(names), values)
        } else {
            result = try await control.target.query(statements.update(names), values + key.parameters)
        }
        return result.affectedRows == 1
    }
}
