import Logging
import PostgresClient
import ReplicationCore

/// A direction that waits because the target's tables no longer fit the stream.
///
/// It says what differs and which SQL mends it, follows additions itself if it may, and returns once the target fits.
struct SchemaPause: Sendable {
    static let pollMilliseconds = 500

    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger

    /// Servers that restart meanwhile, as they do while someone mends a schema, are waited for.
    func wait(for mismatch: SchemaMismatch) async throws {
        var backoff = Backoff()
        while !state.isDraining {
            do {
                return try await waitOnce(for: mismatch)
            } catch {
                // A table whose rows were being copied is taken up again as after any start, by `prepare`.
                guard let error = error as? PostgresError, error.isTransient, !Task.isCancelled,
                    mismatch.problems != [.missingTable]
                else { throw error }
                let waitMilliseconds = backoff.nextMilliseconds()
                logger.warning(
                    "lost a server while paused, trying again",
                    metadata: [
                        "direction": "\(settings.name)", "reason": "\(error)", "waitMilliseconds": "\(waitMilliseconds)",
                    ])
                try await Task.sleep(for: .milliseconds(waitMilliseconds))
            }
        }
    }

    private func waitOnce(for mismatch: SchemaMismatch) async throws {
        let sql = try await mendingSQL(for: mismatch)
        let arrival = mismatch.problems == [.missingTable] ? TableArrival(settings: settings, state: state, logger: logger) : nil
        let rows = try await arrival?.advice(mismatch.table) ?? ""
        let problem =
            "\(mismatch) \(settings.name) waits before the first change that no longer fits. "
            + "Run on \(settings.targetName): \(sql.joined(separator: " "))\(rows)"
        try await PostgresConnection.with(settings.target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(state: .paused, problem: problem)
            state.set(.paused, problem: problem)
            logger.error("paused", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"])
            // After a lost session: what it did may have been done.
            let isDone = try await isMended(mismatch, on: target)
            if settings.replication.ddl == .follow, let arrival, !isDone {
                if try await arrival.follow(mismatch.table, on: target) { return }
            } else if settings.replication.ddl == .follow && mismatch.isAdditive && !isDone {
                // One script, one transaction: all of it or nothing.
                _ = try await target.execute(sql.joined(separator: "\n"))
                logger.notice("followed the source", metadata: ["sql": "\(sql.joined(separator: " "))"])
            }
            while !state.isDraining {
                if try await isMended(mismatch, on: target) {
                    guard let arrival, let obstacle = try await arrival.fill(mismatch.table, on: target) else { return }
                    state.set(.paused, problem: obstacle)
                }
                try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
            }
        }
        logger.notice("going on", metadata: ["direction": "\(settings.name)"])
    }

    private func isMended(_ mismatch: SchemaMismatch, on target: PostgresConnection) async throws -> Bool {
        let table = try await CatalogReader.tables(target, matching: [mismatch.table]).first
        return mismatch.problems.allSatisfy { problem in
            switch problem {
            case .missingTable: table != nil
            case .missingColumn(let name): table?.column(name) != nil
            case .typeDiffers(let name, let type): table?.column(name)?.type != type
            case .generatedKey(let name): table?.column(name)?.isGenerated == false
            case .identityAlways(let name): table?.column(name)?.identity != .always
            // Only another configuration, and so a restart, mends this.
            case .withheldKey, .unownedColumn, .unknownTable: false
            }
        }
    }

    private func mendingSQL(for mismatch: SchemaMismatch) async throws -> [String] {
        let source = try await PostgresConnection.with(settings.source) { source in
            try await CatalogReader.tables(source, matching: [mismatch.table]).first
        }
        return mismatch.problems.map { problem in
            MendingSQL.statement(for: problem, table: mismatch.table, source: source)
        }
    }
}

/// The SQL that makes a target's table fit again, from the source's definition.
enum MendingSQL {
    static func statement(
        for problem: SchemaMismatch.Problem, table: QualifiedName, source: TableDescription?
    ) -> String {
        switch problem {
        case .missingTable:
            guard let source else { return "-- \(table) no longer exists on the source either; create it to go on." }
            let columns = source.columns.filter { !$0.isGenerated }.map(definition).joined(separator: ", ")
            let key =
                source.primaryKey.isEmpty ? "" : ", PRIMARY KEY (\(SQLText.list(source.primaryKey)))"
            return "CREATE TABLE \(table.sql) (\(columns)\(key));"
        case .missingColumn(let name):
            guard let column = source?.column(name) else {
                return "-- \(table).\(name) was dropped or renamed on the source since; add it with its old type to go on."
            }
            return "ALTER TABLE \(table.sql) ADD COLUMN \(definition(column));"
        case .typeDiffers(let name, _):
            guard let column = source?.column(name) else {
                return "-- \(table).\(name) was dropped or renamed on the source since; give it its old type to go on."
            }
            return "ALTER TABLE \(table.sql) ALTER COLUMN \(SQLText.identifier(name)) TYPE \(column.type) "
                + "USING \(SQLText.identifier(name))::\(column.type);"
        case .generatedKey(let name):
            return "ALTER TABLE \(table.sql) ALTER COLUMN \(SQLText.identifier(name)) DROP EXPRESSION;"
        case .identityAlways(let name):
            return "ALTER TABLE \(table.sql) ALTER COLUMN \(SQLText.identifier(name)) SET GENERATED BY DEFAULT;"
        case .unknownTable:
            return "-- list \(table) in lindero.yaml."
        case .unownedColumn(let name):
            return "-- give \(name) of \(table) an owner in lindero.yaml."
        case .withheldKey(let name):
            return "-- take \(name) out of `private:` of \(table) in lindero.yaml and start again."
        }
    }

    /// The column with its default, so that rows the target has already get the value they got on the source.
    private static func definition(_ column: ColumnDescription) -> String {
        var text = "\(SQLText.identifier(column.name)) \(column.type)"
        if column.identity == .none, let expression = column.defaultExpression, !expression.contains("nextval(") {
            text += " DEFAULT \(expression)"
            if column.isNotNull { text += " NOT NULL" }
        }
        return text
    }
}

extension SchemaMismatch {
    /// Only columns are missing. A missing table is more than its definition: it may have rows already.
    var isAdditive: Bool {
        problems.allSatisfy { problem in
            switch problem {
            case .missingColumn: true
            case .missingTable, .typeDiffers, .generatedKey, .withheldKey, .identityAlways, .unownedColumn, .unknownTable: false
            }
        }
    }
}
