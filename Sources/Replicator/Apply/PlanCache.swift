import PostgresClient
import ReplicationCore

/// Plans of the tables in the stream, made from the target's catalog when a definition is first used.
struct PlanCache {
    enum Entry {
        case plan(RelationPlan)
        /// The table is not part of this direction.
        case ignored
    }

    let settings: DirectionSettings
    let isBinary: Bool
    /// Where each table's copy ended, for tables whose copy is newer than the slot.
    let copiedUpTo: [QualifiedName: LSN]
    private var entries: [Int: Entry] = [:]

    init(settings: DirectionSettings, isBinary: Bool, copiedUpTo: [QualifiedName: LSN]) {
        self.settings = settings
        self.isBinary = isBinary
        self.copiedUpTo = copiedUpTo
    }

    /// A plan made by an earlier `resolve`.
    subscript(_ definition: Int) -> Entry? { entries[definition] }

    /// Makes the plans for definitions not yet seen; the mismatch names the first that does not fit.
    mutating func resolve(
        _ definitions: [Int], in history: RelationHistory, on target: PostgresConnection
    ) async throws -> (definition: Int, mismatch: SchemaMismatch)? {
        for definition in definitions where entries[definition] == nil {
            let relation = history.definitions[definition]
            guard settings.includes(relation.name) else {
                entries[definition] = .ignored
                continue
            }
            let table = try await CatalogReader.tables(target, matching: [relation.name]).first
            do {
                let plan = try RelationPlan.make(
                    relation: relation, target: table, copiedUpTo: copiedUpTo[relation.name] ?? .zero,
                    isBinary: isBinary
                ) { settings.travels(relation.name, $0) }
                entries[definition] = .plan(plan)
            } catch {
                return (definition, error)
            }
        }
        return nil
    }
}
