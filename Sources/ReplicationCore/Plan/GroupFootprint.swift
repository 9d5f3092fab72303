/// Which rows a group touches: what the next group has to know to begin beside it.
public struct GroupFootprint: Sendable {
    /// What of one table stands in the way of a row.
    enum Touched: Sendable {
        case nothing
        /// Rows of these keys, as this definition of the table lays them out.
        case rows(definition: Int, KeyHashes)
        case everything
    }

    private var tables: [QualifiedName: Touched] = [:]
    /// Whether nothing can begin beside it.
    public private(set) var isEverything = false

    /// Whether rows of different keys may get into one another's way by what constraints compare: then a table that has such,
    /// and is touched, is touched as a whole. Else that is seen when it happens, and the next group began in vain.
    public var isCautious = true

    public init() {}

    /// Of a group of which nothing is known.
    public static let everything = {
        var footprint = GroupFootprint()
        footprint.addEverything()
        return footprint
    }()

    /// A truncation, or what a trigger may do.
    mutating func addEverything() { isEverything = true }

    /// Rows that cannot be told by their keys.
    mutating func addAll(of table: QualifiedName) { if !isEverything { tables[table] = .everything } }

    mutating func add(_ hashes: some Sequence<UInt32>, of table: QualifiedName, definition: Int) {
        if isEverything { return }
        var all: KeyHashes
        switch tables[table] ?? .nothing {
        case .nothing: all = KeyHashes()
        case .rows(definition, let known): all = known
        // The same key may look otherwise under another definition.
        case .rows, .everything: return addAll(of: table)
        }
        tables[table] = nil
        for hash in hashes { all.insert(hash) }
        tables[table] = .rows(definition: definition, all)
    }

    /// What stands in the way of a table's rows, as this definition lays them out.
    func touched(_ relation: RelationPlan, definition: Int) -> Touched {
        if isEverything { return .everything }
        switch tables[relation.table] ?? .nothing {
        case .nothing: return .nothing
        case .rows(definition, let hashes): return relation.rowsAreApart || !isCautious ? .rows(definition: definition, hashes) : .everything
        case .rows, .everything: return .everything
        }
    }
}
