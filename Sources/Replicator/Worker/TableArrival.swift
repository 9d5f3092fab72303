import Logging
import PostgresClient
import ReplicationCore

/// A table whose first change comes while the target lacks it. It may be older than that change: the rows it has
/// already are copied, or the table was there before under another name.
struct TableArrival {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger

    /// Of a table that newer rules take in: where the target has it already, it is the direction's from here on, as one that it got since.
    func takeUp(_ table: QualifiedName) async throws {
        try await PostgresConnection.with(settings.target) { target in
            let isThere = try await !CatalogReader.names(target, matching: [table]).isEmpty
            guard isThere, try await TableCopyState.read(target, direction: settings.name)[table] == nil else { return }
            _ = try await fill(table, on: target)
        }
    }

    /// What becomes of the rows, for people.
    func advice(_ table: QualifiedName) async throws -> String {
        try await PostgresConnection.with(settings.source) { source in
            guard let description = try await CatalogReader.tables(source, matching: [table]).first else { return "" }
            if let obstacle = try await obstacle(description, source) {
                return " Publication \(settings.publication) \(obstacle): the rows that \(table) has already do not come by "
                    + "themselves, put them there too."
            }
            return " The rows that it has already are copied then. If it was renamed, rename it on \(settings.targetName) instead."
        }
    }

    /// Creates the table and copies its rows.
    ///
    /// - Returns: whether it could; a person has to when the publication does not send the table whole.
    func follow(_ table: QualifiedName, on target: PostgresConnection) async throws -> Bool {
        try await PostgresConnection.with(settings.source) { source in
            guard let description = try await CatalogReader.tables(source, matching: [table]).first,
                try await obstacle(description, source) == nil
            else { return false }
            try await add(description, source, target)
            return true
        }
    }

    /// The table is there now: empty it gets the rows that the source's has, else it is taken as it is.
    ///
    /// - Returns: why it cannot be filled yet.
    func fill(_ table: QualifiedName, on target: PostgresConnection) async throws -> String? {
        do {
            try await fillOrAdopt(table, on: target)
            return nil
        } catch {
            // It lacks a column, say: whoever made it is still at it.
            guard let failure = error as? ReplicationFailure, failure.code == .schemaDiffers else { throw error }
            return failure.description
        }
    }

    private func fillOrAdopt(_ table: QualifiedName, on target: PostgresConnection) async throws {
        let isEmpty = try await target.filled(among: [table]).isEmpty
        try await PostgresConnection.with(settings.source) { source in
            let description = try await CatalogReader.tables(source, matching: [table]).first
            guard isEmpty, let description, try await obstacle(description, source) == nil else {
                return try await TableAddition(
                    settings: settings, state: state, logger: logger, source: source, target: target
                ).adopt([table])
            }
            try await add(description, source, target)
        }
    }

    private func add(
        _ table: TableDescription, _ source: PostgresConnection, _ target: PostgresConnection
    ) async throws {
        try await CopyGate(settings: settings).enter(target)
        let finished = try await TableCopyState.read(target, direction: settings.name)
        let known = try await CatalogReader.tables(source, matching: Array(finished.keys) + [table.name])
        // A table that was dropped here comes back whole, whatever its record says.
        if finished[table.name] != nil { try await forget(table.name, target) }
        try await NewerSnapshots(settings: settings, logger: logger).run {
            try await TableAddition(settings: settings, state: state, logger: logger, source: source, target: target)
                .add([table], known: known)
        }
        logger.notice("added a table with its rows", metadata: ["direction": "\(settings.name)", "table": "\(table.name)"])
    }

    private func forget(_ table: QualifiedName, _ target: PostgresConnection) async throws {
        _ = try await target.query(
            "DELETE FROM lindero.table_copy WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
            [.text(settings.name), .text(table.schema), .text(table.name)])
    }

    private func obstacle(_ table: TableDescription, _ source: PostgresConnection) async throws -> String? {
        try await PublicationCover.read(settings, on: source)?.obstacle(table)
    }
}
