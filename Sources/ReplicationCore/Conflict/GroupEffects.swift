/// What the target transaction that is being built has decided so far; a new one for each, whether the last one
/// committed or not.
public struct GroupEffects: Sendable {
    private var presence: [RowKey: Bool] = [:]
    private(set) var ended: Set<RowKey> = []
    /// What both sides have ended.
    public private(set) var matched: Set<OperationID> = []
    /// Where rows that others may refer to have got to, by the keys that they had before; `nil` where they are gone.
    private(set) var ways: [RowKey: RowKey?] = [:]
    /// The other way round.
    private var origins: [RowKey: [RowKey]] = [:]
    /// For this transaction's last message; see `SplitNote`.
    public private(set) var notes: [SplitNote] = []

    public init() {}

    /// The applier has locked a row, or found none with this key.
    public mutating func note(_ key: RowKey, isPresent: Bool) { presence[key] = isPresent }

    /// For the next part of the same target transaction, once the notes are written: what was decided stays so, and which
    /// rows are there is looked at again.
    public func goingOn() -> GroupEffects {
        var effects = GroupEffects()
        (effects.ended, effects.matched) = (ended, matched)
        (effects.ways, effects.origins) = (ways, origins)
        return effects
    }

    /// Whether the row is there by now. A key that was never noted counts as absent.
    public func isPresent(_ key: RowKey) -> Bool { presence[key] ?? false }

    /// The key by now of a row that had this one before; `nil` when it is gone.
    func key(ofRowFrom key: RowKey) -> RowKey? { ways[key] ?? key }

    /// A row that others may refer to has got another key, is one with the row that has that, or is gone.
    mutating func pass(_ key: RowKey, to newKey: RowKey?) {
        var rows = origins.removeValue(forKey: key) ?? []
        if ways[key] == nil { rows.append(key) }
        for row in rows { ways.updateValue(newKey, forKey: row) }
        if let newKey { origins[newKey, default: []] += rows }
    }

    /// - Parameter isRemembered: whether the history knows of writes that end with the row.
    mutating func end(_ key: RowKey, isRemembered: Bool) {
        presence[key] = false
        if isRemembered { ended.insert(key) }
    }

    mutating func match(_ deletion: OperationID, of key: RowKey, table: SplitTable) {
        matched.insert(deletion)
        notes.append(.matched(table: table.name, key: key.bytes, deletion: deletion))
    }

    mutating func create(_ key: RowKey) { presence[key] = true }

    mutating func noteCreated(_ key: RowKey, table: SplitTable) {
        notes.append(.created(table: table.name, key: key.bytes))
    }
}
