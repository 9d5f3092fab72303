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
        let present = try await PostgresConnection.with(settings.source) { source in
            try await StreamedCatalog(source: source).table(of: mismatch) { state.isDraining }
        }
        var sent = present
        // A table that is made anew needs no columns that stay behind.
        if mismatch.problems == [.missingTable] { sent?.columns.removeAll { !settings.travels(mismatch.table, $0.name) } }
        let sql = mismatch.problems.map { MendingSQL.statement(for: $0, table: mismatch.table, source: sent) }
        let doubts = try await doubts(about: mismatch, present)
        let arrival = mismatch.problems == [.missingTable] ? TableArrival(settings: settings, state: state, logger: logger) : nil
        let rows = try await arrival?.advice(mismatch.table) ?? ""
        let problem =
            "\(mismatch) \(settings.name) waits before the first change that no longer fits. "
            + "Run on \(settings.targetName): \(sql.joined(separator: " "))\(rows)\(doubts)"
        try await PostgresConnection.with(settings.target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(state: .paused, problem: problem)
            state.set(.paused, problem: problem)
            logger.error("paused", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"])
            // After a lost session: what it did may have been done.
            let isDone = try await isMended(mismatch, on: target)
            if settings.replication.ddl == .follow, let arrival, !isDone {
                if try await arrival.follow(mismatch.table, on: target) { return }
            } else if settings.replication.ddl == .follow && mismatch.isAdditive && doubts.isEmpty && !isDone {
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
        let enums = mismatch.problems.compactMap { if case .missingLabels(let missing) = $0 { missing.type } else { nil } }
        let labels = enums.isEmpty ? [:] : try await EnumLabels.labels(of: enums, target)
        return mismatch.problems.allSatisfy { problem in
            switch problem {
            case .missingTable: table != nil
            case .missingColumn(let name): table?.column(name) != nil
            case .typeDiffers(let name, let type): table?.column(name)?.type != type
            case .definitionDiffers(let name, let difference): table?.column(name).map { !difference.isStill(in: $0) } ?? false
            case .generatedKey(let name): table?.column(name)?.isGenerated == false
            case .identityAlways(let name): table?.column(name)?.identity != .always
            case .missingLabels(let missing): Set(missing.labels.map(\.name)).isSubset(of: labels[missing.type] ?? [])
            // Only another configuration, and so a restart, mends this.
            case .withheldKey, .unownedColumn, .unknownTable, .anotherTable: false
            }
        }
    }

    private func hasRows(_ table: QualifiedName) async throws -> Bool {
        try await PostgresConnection.with(settings.target) { target in
            try await !target.filled(among: try await CatalogReader.names(target, matching: [table])).isEmpty
        }
    }

    /// Why an addition is no matter of course; empty where it is one.
    private func doubts(about mismatch: SchemaMismatch, _ present: TableDescription?) async throws -> String {
        var text = ""
        let unknown = MendingSQL.unknownPast(of: mismatch, source: present)
        if !unknown.isEmpty, try await hasRows(mismatch.table) {
            text += " Older rows may have values in \(unknown.joined(separator: ", ")) on \(settings.sourceName): once it streams, bring them "
                + "with `lindero verify \(mismatch.table) --repair --execute`."
        }
        let altered = mismatch.problems.compactMap { if case .typeDiffers(let name, _) = $0 { name } else { nil } }
        if !altered.isEmpty, try await hasRows(mismatch.table) {
            text += " If \(settings.sourceName) altered \(altered.joined(separator: ", ")) by a USING of its own, older rows have other values there: "
                + "once it streams, bring them with `lindero verify \(mismatch.table) --repair --execute`."
            let anew = altered.compactMap { name in
                present?.column(name).map { "DROP COLUMN \(SQLText.identifier(name)), ADD COLUMN \(SQLText.identifier(name)) \($0.type)" }
            }
            if !anew.isEmpty {
                text += " If it was dropped and made anew, or its values can't be cast: ALTER TABLE \(mismatch.table.sql) \(anew.joined(separator: ", ")); "
                    + "and then the same."
            }
        }
        guard mismatch.isAdditive, let present else { return text }
        let twin = try await PostgresConnection.with(settings.target) { target in
            try await CatalogReader.tables(target, matching: [mismatch.table]).first
        }
        let strays = mismatch.problems.flatMap { problem -> [ColumnDescription] in
            guard case .missingColumn(let name) = problem, let column = present.column(name), let twin else { return [] }
            // The target's own columns are no sign of it, unless one could be what is missing.
            return present.formerColumns(of: column, in: twin).filter { settings.policy?.tables[mismatch.table]?.columns[$0.name] == nil }
        }
        if let stray = strays.first {
            text += " If that is \(stray.name) under a new name, rename it on \(settings.targetName) instead."
        }
        return text
    }
}
