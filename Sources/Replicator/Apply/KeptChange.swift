import PostgresClient
import ReplicationCore

/// A change from quarantine as it goes to the target of today: the rules and both tables may have changed since it was kept.
///
/// It is treated as the stream would treat it now. What the stream would stop at is refused, and so is what would come to nothing.
struct KeptChange {
    let plan: RelationPlan
    let row: RowChange
    /// What the row's cells are in.
    let arena: ChangeArena

    /// - Throws: `QuarantineError`.
    static func make(
        _ stored: QuarantineStore.Stored, id: Int64, settings: DirectionSettings, target: PostgresConnection
    ) async throws -> KeptChange {
        let name = stored.relation.name
        guard settings.includes(name) else {
            throw QuarantineError.withheld(id, "table \(name) is not part of \(settings.name) any more")
        }
        try await requireKnownColumns(stored, id: id, settings: settings)
        let table = try await CatalogReader.tables(target, matching: [name]).first
        let readable = try await KeptValues(id: id, settings: settings, target: target).readable(stored, in: table)
        let plan: RelationPlan
        do {
            plan = try RelationPlan.make(relation: readable.relation, target: table, isBinary: readable.isBinary) {
                settings.travels(name, $0)
            }
        } catch {
            throw QuarantineError.refused(id, "\(error)")
        }
        guard !plan.columns.isEmpty || plan.sourceWidth == 0,
            case .apply(let row) = RowChange.resolve(readable.change, plan: plan, arena: readable.arena)
        else { throw QuarantineError.withheld(id, "all that it writes stays behind by the rules of today") }
        return KeptChange(plan: plan, row: row, arena: readable.arena)
    }

    /// A column that the rules do not know is none that they hold back: it may have another name now.
    private static func requireKnownColumns(
        _ stored: QuarantineStore.Stored, id: Int64, settings: DirectionSettings
    ) async throws {
        let relation = stored.relation
        guard let ownership = settings.policy?.tables[relation.name] else { return }
        // A delete speaks of the key alone, unless it has the whole row.
        let isKeyOnly = stored.change.kind == .delete && relation.replicaIdentity != .full
        let unknown = relation.columns.filter { $0.isKey || !isKeyOnly }.map(\.name)
            .filter { ownership.columns[$0] == nil && !ownership.match.contains($0) }
        if unknown.isEmpty { return }
        // One that the source generates has no owner.
        let table = try await PostgresConnection.with(settings.source) { source in
            try await CatalogReader.tables(source, matching: [relation.name]).first
        }
        guard let gone = unknown.first(where: { table?.column($0)?.isGenerated != true }) else { return }
        throw QuarantineError.outdated(
            id, "it has a value for column \(relation.name).\(gone), which is not there any more or has another name")
    }
}
