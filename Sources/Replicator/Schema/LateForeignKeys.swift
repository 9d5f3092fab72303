import Logging
import PostgresClient
import ReplicationCore

/// Adds the foreign keys that had to wait, while the stream runs: tables copied at different moments fit each other
/// once the stream has passed the newest copy.
struct LateForeignKeys {
    static let pollMilliseconds = 200

    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger

    /// Returns when there is nothing left to do, or the task is cancelled. What fails is told and tried at the next start:
    /// the stream does not need it.
    func run() async {
        do {
            try await PostgresConnection.with(options) { target in
                let record = DirectionRecord(connection: target, settings: settings)
                guard try await record.read()?.foreignKeysWait == true else { return }
                let copies = try await TableCopyState.read(target, direction: settings.name)
                let newest = copies.values.map(\.snapshotLSN).max() ?? .zero
                while state.appliedLSN < newest { try await Task.sleep(for: .milliseconds(Self.pollMilliseconds)) }
                let keys = try await wanted(record, copies: copies, target: target)
                var isWhole = true
                for key in keys { isWhole = try await add(key, on: target) && isWhole }
                guard isWhole else { return }
                try await record.setForeignKeysWait(false)
                logger.notice("foreign keys are in place", metadata: ["direction": "\(settings.name)", "count": "\(keys.count)"])
            }
        } catch {
            if Task.isCancelled || state.isDraining { return }
            logger.warning(
                "foreign keys wait for the next start", metadata: ["direction": "\(settings.name)", "reason": "\(error)"])
        }
    }

    /// Shorter than `deadlock_timeout`: it is never the applier that gives way.
    private var options: ConnectionOptions {
        var options = settings.target
        options.settings += [(name: "lock_timeout", value: "500ms")]
        return options
    }

    private func wanted(
        _ record: DirectionRecord, copies: [QualifiedName: TableCopyState], target: PostgresConnection
    ) async throws -> [ForeignKey] {
        let created = try await record.createdTables()
        return try await PostgresConnection.with(settings.source) { source in
            let known = try await CatalogReader.tables(source, matching: Array(copies.keys))
            let targets = try await CatalogReader.tables(target, matching: Array(copies.keys))
            return try await SourceSchema.read(
                source, tables: known.filter { created.contains($0.name.sql) }, known: known,
                keeps: { table, column in targets.first { $0.name == table }?.column(column) != nil },
                travels: { settings.travels($0, $1) }
            ).foreignKeys
        }
    }

    /// Waits for its locks in short turns.
    private func add(_ key: ForeignKey, on target: PostgresConnection) async throws -> Bool {
        for statement in key.steps {
            while true {
                do {
                    _ = try await target.execute(statement)
                    break
                } catch {
                    try Task.checkCancellation()
                    // 55P03: somebody holds the table.
                    guard let code = error.sqlState?.rawValue else { throw error }
                    if code == "55P03" || code == "40P01" {
                        try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
                        continue
                    }
                    logger.error(
                        "a foreign key does not hold on the target",
                        metadata: [
                            "table": "\(key.table)", "constraint": "\(key.name)", "reason": "\(error)", "fix": "\(statement)",
                        ])
                    return false
                }
            }
        }
        return true
    }
}
