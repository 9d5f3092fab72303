import Logging
import PostgresClient
import ReplicationCore

/// A direction whose target has no partition for a row, since the source has got one: it says which SQL makes it, makes it itself if it
/// may, and goes on once it is there.
struct PartitionPause: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger

    /// - Returns: whether partitions were missing; else it is the row that does not fit.
    /// - Throws: `PostgresError`.
    func wait(for table: QualifiedName) async throws -> Bool {
        let before = try await target(table)
        let source = try await PostgresConnection.with(settings.source) { try await PartitionTrees.read($0, of: [table]) }
        let missing = source.missing(in: before)
        guard !missing.isEmpty else { return false }
        let sql = missing.map(\.sql).joined(separator: " ")
        let arrears = try await arrears(of: missing, table)
        var doubt = ""
        if settings.replication.ddl == .follow {
            do {
                // One script, one transaction: all of it or nothing.
                try await PostgresConnection.with(settings.target) { _ = try await $0.execute(sql) }
                logger.notice("followed the source", metadata: ["direction": "\(settings.name)", "sql": "\(sql)"])
                if !arrears.isEmpty { logger.warning("rows are missing", metadata: ["direction": "\(settings.name)", "problem": "\(arrears)"]) }
                return true
            } catch let error as PostgresError where !error.passesForApplier {
                doubt = " It was tried, and refused: \(error)."
            }
        }
        let notice = DirectionNotice(settings: settings, logger: logger)
        await notice.begin(
            state, as: .paused,
            because: "\(settings.targetName) lacks \(missing.count == 1 ? "a partition" : "\(missing.count) partitions") that \(settings.sourceName) "
                + "has of \(table). \(settings.name) waits before the first row of it. Run on \(settings.targetName): \(sql)\(doubt)\(arrears)")
        // Whatever is made there may be the place for the row: then it is tried.
        while !state.isDraining, try await target(table).partitions == before.partitions {
            try await Task.sleep(for: .milliseconds(SchemaPause.pollMilliseconds))
        }
        await notice.end(state)
        return true
    }

    /// What to do about rows that were in a partition before it was attached: they came by no change of its root. Empty where there are none;
    /// they are looked for by age, which finds the first at once, and a large partition without any not within five seconds.
    private func arrears(of missing: [PartitionTrees.Partition], _ table: QualifiedName) async throws -> String {
        var options = settings.source
        options.settings.append((name: "statement_timeout", value: "5s"))
        let leaves = missing.filter { $0.key == nil }.map(\.name)
        let filled = try await PostgresConnection.with(options) { source in
            var filled: [QualifiedName] = []
            for leaf in leaves {
                let found = try? await source.query(
                    """
                    SELECT 1 FROM ONLY \(leaf.sql) r, pg_catalog.pg_inherits i
                    WHERE i.inhrelid = \(SQLText.literal(leaf.sql))::pg_catalog.regclass AND pg_catalog.age(r.xmin) >= pg_catalog.age(i.xmin) LIMIT 1
                    """)
                if found?.rowCount != 0 { filled.append(leaf) }
            }
            return filled
        }
        guard !filled.isEmpty else { return "" }
        return " What \(filled.map { "\($0)" }.joined(separator: ", ")) had on \(settings.sourceName) before it became a partition does not come by itself: "
            + "once it streams, bring it with `lindero verify \(table) --repair --execute`."
    }

    private func target(_ table: QualifiedName) async throws -> PartitionTrees {
        try await PostgresConnection.with(settings.target) { try await PartitionTrees.read($0, of: [table]) }
    }
}

extension PostgresError {
    /// A row has no partition to go to: a constraint of its table's would have a name.
    var isWithoutPartition: Bool {
        guard case .server(let error) = self else { return false }
        return error.sqlState.rawValue == "23514" && error.constraint == nil
    }
}
