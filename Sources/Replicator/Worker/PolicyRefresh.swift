import Logging
import PostgresClient
import ReplicationCore

/// A direction that met a table or a column which no rule speaks of: it reads the rules anew, and waits until they do.
///
/// The stream may be older than the source's catalog. What the catalog still has under that name stays where it is, if the rules
/// leave it out; what it no longer has was dropped or renamed since, and may be part of the direction under its new name: nothing
/// of that passes by unless a person says so.
struct PolicyRefresh: Sendable {
    static let pollMilliseconds = 1_000

    let state: DirectionState
    let logger: Logger

    /// The settings with rules that know what is in `mismatch`; unchanged ones when the direction is drained first.
    func settings(after mismatch: SchemaMismatch, _ settings: DirectionSettings) async throws -> DirectionSettings {
        guard let read = settings.policyReader else { return settings }
        var said = ""
        while !state.isDraining {
            do {
                var fresh = settings
                fresh.policy = try await read()
                try await judge(mismatch, &fresh)
                return fresh
            } catch {
                let problem = "\(mismatch) \(settings.name) waits before its first change. \(error)"
                state.set(.paused, problem: problem)
                if problem != said { logger.error("paused", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"]) }
                said = problem
                try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
            }
        }
        return settings
    }

    private func judge(_ mismatch: SchemaMismatch, _ settings: inout DirectionSettings) async throws {
        let table = mismatch.table
        let (present, isThere) = try await PostgresConnection.with(settings.source) { source in
            // Also a table that the catalog's reader passes over, such as an extension's.
            (
                try await CatalogReader.tables(source, matching: [table]).first,
                try await source.query("SELECT pg_catalog.to_regclass($1)::text", [.text(table.sql)]).firstValue != nil
            )
        }
        for problem in mismatch.problems {
            switch problem {
            case .unownedColumn(let name) where settings.policy?.tables[table]?.columns[name] == nil:
                let column = ColumnName(table: table, column: name)
                var stays = present?.column(name) != nil
                if !stays { stays = try await hasStayed(column, settings) }
                if stays { settings.stayingColumns.insert(column) } else { settings.formerColumns.insert(column) }
            case .unknownTable where !settings.includes(table):
                // What somebody else's publication sends need never have been ours.
                if !isThere, PublicationCover.isOwn(settings) { try await requireGivenUp(table, settings) }
                settings.stayingTables.insert(table)
            default:
                break
            }
        }
    }

    /// Whether the column was private: so it stays, whatever has become of it.
    private func hasStayed(_ column: ColumnName, _ settings: DirectionSettings) async throws -> Bool {
        try await PostgresConnection.with(settings.target) { target in
            try await target.query(
                """
                SELECT 1 FROM lindero.table_copy
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND left_columns OPERATOR(pg_catalog.?) $4
                """, [.text(settings.name), .text(column.table.schema), .text(column.table.name), .text(column.column)]
            ).rowCount > 0
        }
    }

    private struct Gone: Error, CustomStringConvertible { var description: String }

    /// A table that the source no longer has under that name: only a person knows whether anybody still wants its changes.
    private func requireGivenUp(_ table: QualifiedName, _ settings: DirectionSettings) async throws {
        let isGivenUp = try await PostgresConnection.with(settings.target) { target in
            try await target.query(
                """
                SELECT 1 FROM lindero.table_copy
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND left_at_lsn = '0/0'
                """, [.text(settings.name), .text(table.schema), .text(table.name)]
            ).rowCount > 0
        }
        if isGivenUp { return }
        throw Gone(
            description: "\(settings.sourceName) has no table \(table) any more, and its changes wait in the stream. If it has another name "
                + "now and they are wanted, give it the old one on both sides, at a quiet time, until they have passed. If nobody wants "
                + "them, run on \(settings.targetName): INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes, left_at_lsn) VALUES "
                + "(\(SQLText.literal(settings.name)), \(SQLText.literal(table.schema)), \(SQLText.literal(table.name)), '0/0', 0, 0, '0/0') "
                + "ON CONFLICT (direction, schema_name, table_name) DO UPDATE SET left_at_lsn = '0/0';")
    }
}

extension SchemaMismatch {
    /// Only the ownership rules are behind, or the catalog that they were resolved with is ahead.
    var isUnowned: Bool {
        problems.allSatisfy { problem in
            switch problem {
            case .unownedColumn, .unknownTable: true
            case .missingTable, .missingColumn, .typeDiffers, .generatedKey, .withheldKey, .identityAlways: false
            }
        }
    }
}
