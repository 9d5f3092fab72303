import Configuration
import PostgresClient
import ReplicationCore
import Replicator

/// Before a replica's first start everything that `check` calls a blocker blocks `run` too: publishing a table without
/// a key, for one, would make the source refuse its own service's updates.
///
/// Later starts go on without: what changed since pauses the direction, which mends itself. Only tables that the
/// configuration has got since are looked at.
struct FirstStart {
    let loaded: LoadedConfiguration
    let settings: DirectionSettings

    /// - Throws: `CommandFailure` with every blocker.
    func require(target: Database) async throws {
        // An adopted publication without rules decides alone what travels.
        if settings.policy == nil { return }
        let copied = try await target.connected { try await hasStarted($0) ? try await self.copied($0) : nil }
        let new = copied.map { copied in settings.policy.map { Set($0.tables.keys).subtracting(copied) } ?? [] }
        if let new, new.isEmpty || settings.replication.snapshot == .never { return }
        var connections: [String: ConnectionOptions] = [:]
        for database in try loaded.databases() where [settings.sourceName, target.name].contains(database.name) {
            connections[database.name] = database.options
        }
        let blockers = await Preflight(
            configuration: loaded.configuration, connections: connections, ownSlots: [settings.slot]
        ).run().blockers.filter { blocker in new.map { Self.isAbout($0, blocker) } ?? true }
        guard let first = blockers.first else { return }
        let messages = blockers.map { blocker in
            blocker.mark.map { "\(loaded.path):\($0.line):\($0.column): " } ?? ""
                + (blocker.database.map { "\($0): " } ?? "") + blocker.message
        }
        let fix = blockers.count == 1 ? first.fix.map { "\($0)\($0.hasSuffix(";") ? "" : ",") then run `lindero check`." } : nil
        throw CommandFailure(
            first.code.rawValue, messages.joined(separator: "\n"), place: settings.name,
            nextStep: fix ?? "Run `lindero check`: it says of each how to mend it.", exit: .blocked)
    }

    /// Whether a finding's object is one of the tables, or a column of one.
    private static func isAbout(_ tables: Set<QualifiedName>, _ finding: PreflightFinding) -> Bool {
        guard let object = finding.object else { return false }
        return tables.contains { object == $0.description || object.hasPrefix("\($0.description).") }
    }

    /// The tables that the direction has already, and those of its copy that are not whole: they get their keys when their data is there.
    private func copied(_ target: PostgresConnection) async throws -> Set<QualifiedName> {
        guard try await target.hasLindero("table_copy") else { return [] }
        let unfinished = try await TableCopyState.unfinished(target, direction: settings.name)
        return Set(try await TableCopyState.read(target, direction: settings.name).keys)
            .union((settings.policy?.tables.keys.sorted() ?? []).filter { unfinished.contains($0.sql) })
    }

    /// Whether the target already holds the direction's slot and start.
    private func hasStarted(_ target: PostgresConnection) async throws -> Bool {
        guard try await target.hasLindero("direction") else { return false }
        return try await target.query(
            "SELECT 1 FROM lindero.direction WHERE name = $1 AND start_lsn > '0/0'", [.text(settings.name)]
        ).rowCount > 0
    }
}
