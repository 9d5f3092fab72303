import PostgresClient
import ReplicationCore

/// Plans of the tables in the stream, made from the target's catalog when a definition is first used.
struct PlanCache: Sendable {
    enum Entry: Sendable {
        case plan(RelationPlan, TargetShape)
        /// The table is not part of this direction.
        case ignored
    }

    let settings: DirectionSettings
    let isBinary: Bool
    /// Types of the source's own, as its catalog showed them when the stream began.
    let userTypes: [UInt32: ColumnDescription]
    /// Where each table's copy ended, for tables whose copy is newer than the slot.
    let copiedUpTo: [QualifiedName: LSN]
    /// Which table of the source was copied under a name.
    let sourceOIDs: [QualifiedName: UInt32]
    private var entries: [Int: Entry] = [:]

    init(
        settings: DirectionSettings, isBinary: Bool, userTypes: [UInt32: ColumnDescription] = [:],
        copiedUpTo: [QualifiedName: LSN], sourceOIDs: [QualifiedName: UInt32] = [:]
    ) {
        self.settings = settings
        self.isBinary = isBinary
        self.userTypes = userTypes
        self.copiedUpTo = copiedUpTo
        self.sourceOIDs = sourceOIDs
    }

    /// A plan made by an earlier `resolve`; `nil` for a table that is not part of the direction.
    func plan(_ definition: Int) -> RelationPlan? {
        guard case .plan(let plan, _)? = entries[definition] else { return nil }
        return plan
    }

    /// What the table of a plan was when it was made.
    func shape(_ definition: Int) -> TargetShape? {
        guard case .plan(_, let shape)? = entries[definition] else { return nil }
        return shape
    }

    /// Has every plan made anew: a table may have been altered.
    mutating func forgetAll() { entries = [:] }

    /// Whether `resolve` would have nothing to do.
    func hasAll(_ definitions: [Int]) -> Bool { definitions.allSatisfy { entries[$0] != nil } }

    /// The same for all that a small chunk uses.
    func hasAll(of changes: [Change], _ truncations: [Truncation]) -> Bool {
        for change in changes {
            if change.kind == .truncate {
                guard hasAll(truncations[change.relation].relations) else { return false }
            } else if entries[change.relation] == nil {
                return false
            }
        }
        return true
    }

    /// Forgets the plans of definitions that the stream has left behind, once they are many.
    mutating func forget(missingFrom history: RelationHistory) {
        guard entries.count > history.count + 100 else { return }
        entries = entries.filter { history[$0.key] != nil }
    }

    /// Makes the plans for definitions not yet seen; the mismatch names the first that does not fit.
    mutating func resolve(
        _ definitions: [Int], in history: RelationHistory, on target: PostgresConnection
    ) async throws -> (definition: Int, mismatch: SchemaMismatch)? {
        let missing = definitions.filter { entries[$0] == nil }
        if missing.isEmpty { return nil }
        let names = missing.compactMap { history[$0]?.name }.filter(settings.includes)
        // First the shapes: what is altered in between no longer has the one that is known of it.
        let shapes = names.isEmpty ? [:] : try await TargetShape.read(target, names)
        let tables = names.isEmpty ? [] : try await CatalogReader.tables(target, matching: names)
        for definition in missing {
            guard let relation = history[definition] else {
                throw StreamError.unexpected("a change of a definition that is gone")
            }
            guard settings.includes(relation.name) else {
                // It may be one of ours under another name.
                if settings.isUnknown(relation.name) {
                    return (definition, SchemaMismatch(table: relation.name, problems: [.unknownTable(relation.id)]))
                }
                entries[definition] = .ignored
                continue
            }
            let table = tables.first { $0.name == relation.name }
            // One that the target has no more is made, and copied, anew.
            if table != nil, let known = sourceOIDs[relation.name], known != relation.id {
                return (definition, SchemaMismatch(table: relation.name, problems: [.anotherTable(relation.id)]))
            }
            try settings.targetTables.require(table)
            let unowned = settings.unownedColumns(relation)
            guard unowned.isEmpty else {
                let problems = unowned.map { SchemaMismatch.Problem.unownedColumn($0) }
                return (definition, SchemaMismatch(table: relation.name, problems: problems))
            }
            // Made since: nothing has this shape, so that what goes in bulk asks again.
            let shape = shapes[relation.name] ?? TargetShape(oid: table?.oid ?? 0, text: "", fires: false)
            do {
                let plan = try RelationPlan.make(
                    relation: relation, target: table, copiedUpTo: copiedUpTo[relation.name] ?? .zero,
                    isBinary: isBinary, allowsBulk: !shape.fires,
                    match: settings.backend == .split ? settings.policy?.tables[relation.name]?.match : nil
                ) { settings.travels(relation.name, $0) }
                if isBinary, let table,
                    !TypeCompatibility.travelsInBinary(relation, to: table, userTypes: userTypes)
                {
                    throw ApplyError.needsText(relation.name)
                }
                entries[definition] = .plan(plan, shape)
            } catch let mismatch as SchemaMismatch {
                return (definition, mismatch)
            }
        }
        return nil
    }
}
