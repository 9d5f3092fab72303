/// What the target transaction that is being built has decided so far; a new one for each, whether the last one
/// committed or not.
public struct GroupEffects: Sendable {
    private var presence: [RowKey: Bool] = [:]
    private(set) var ended: Set<RowKey> = []
    /// What both sides have ended.
    public private(set) var matched: Set<OperationID> = []
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
        return effects
    }

    /// Whether the row is there by now. A key that was never noted counts as absent.
    public func isPresent(_ key: RowKey) -> Bool { presence[key] ?? false }

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
