import Logging
import PostgresClient
import ReplicationCore

/// A direction that met a column which no rule speaks of: it reads the rules anew, and waits until somebody owns it.
struct PolicyRefresh: Sendable {
    static let pollMilliseconds = 1_000

    let state: DirectionState
    let logger: Logger

    /// The settings with rules that know the columns of `mismatch`; unchanged ones when the direction is drained first.
    func settings(after mismatch: SchemaMismatch, _ settings: DirectionSettings) async throws -> DirectionSettings {
        guard let read = settings.policyReader else { return settings }
        var said = ""
        while !state.isDraining {
            do {
                var fresh = settings
                let policy = try await read()
                fresh.policy = policy
                for case .unownedColumn(let name) in mismatch.problems where policy.tables[mismatch.table]?.columns[name] == nil {
                    // The rules hold without it: the source generates it, or dropped it since.
                    fresh.stayingColumns.insert(ColumnName(table: mismatch.table, column: name))
                }
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
}

extension SchemaMismatch {
    /// Only the ownership rules are behind.
    var isUnowned: Bool {
        problems.allSatisfy { if case .unownedColumn = $0 { true } else { false } }
    }
}
