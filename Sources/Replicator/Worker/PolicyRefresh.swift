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
        let notice = DirectionNotice(settings: settings, logger: logger)
        var said = ""
        while !state.isDraining {
            do {
                var fresh = settings
                let present = try await PostgresConnection.with(settings.source) { source in
                    try await StreamedCatalog(source: source).table(of: mismatch) { state.isDraining }
                }
                fresh.policy = try await read()
                try await judge(mismatch, present, &fresh)
                if !said.isEmpty { await notice.end(state) }
                return fresh
            } catch {
                let problem = "\(mismatch) \(settings.name) waits before its first change. \(error)"
                if problem != said { await notice.begin(state, as: .paused, because: problem) }
                said = problem
                try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
            }
        }
        return settings
    }

    private func judge(_ mismatch: SchemaMismatch, _ present: TableDescription?, _ settings: inout DirectionSettings) async throws {
        let table = mismatch.table
        for problem in mismatch.problems {
            switch problem {
            case .unownedColumn(let name) where settings.policy?.tables[table]?.columns[name] == nil:
                let column = ColumnName(table: table, column: name)
                var stays = present?.column(name) != nil
                if !stays { stays = try await hasStayed(column, settings) }
                if stays { settings.stayingColumns.insert(column) } else { settings.formerColumns.insert(column) }
            case .unknownTable(let oid) where !settings.includes(table):
                try await judge(table, oid, &settings)
            default:
                break
            }
        }
    }

    private func judge(_ table: QualifiedName, _ oid: UInt32, _ settings: inout DirectionSettings) async throws {
        let (fate, strangers) = try await PostgresConnection.with(settings.source) { [settings] source in
            (try await TableFate.read(table, oid: oid, on: source), try await PublicationCover.strangers(settings, on: source))
        }
        settings.stayingTables.formUnion(strangers.union([table]))
        if PublicationCover.isOwn(settings), fate != .present { try await requireGivenUp(table, fate, settings) }
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
    private func requireGivenUp(_ table: QualifiedName, _ fate: TableFate, _ settings: DirectionSettings) async throws {
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
            description: fate.words(of: table, on: settings.sourceName) + " If they are wanted, give it that name again on both sides, at a "
                + "quiet time, until they have passed. If nobody wants them, run on \(settings.targetName): INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes, left_at_lsn) VALUES "
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
            case .missingTable, .missingColumn, .typeDiffers, .definitionDiffers, .generatedKey, .withheldKey, .identityAlways,
                .missingLabels, .anotherTable:
                false
            }
        }
    }
}
