import ReplicationCore

/// How SQL reads a column's value from text, and the value that is stored.
struct UpsertColumn: Sendable {
    /// char(n), varchar(n) and their arrays: an explicit cast to their length cuts, an assignment refuses.
    private static let characters: Set<UInt32> = [1042, 1043, 1014, 1015]
    /// bit(n), varbit(n) and their arrays: an explicit cast cuts or fills up, an assignment refuses.
    private static let bits: Set<UInt32> = [1560, 1562, 1561, 1563]

    let description: ColumnDescription

    var name: String { SQLText.identifier(description.name) }

    /// The type without modifier and domain.
    private var base: String { description.castName ?? description.type }

    /// A text as the column would hold it: rounded to its precision, padded to its length. What is too long stays as it
    /// is, so that the assignment refuses it.
    func value(of text: String) -> String {
        let plain = "\(text)::\(base)"
        if base == description.type || Self.bits.contains(description.baseTypeOID) { return plain }
        let stored = "\(plain)::\(description.type)::\(base)"
        guard Self.characters.contains(description.baseTypeOID) else { return stored }
        return "CASE WHEN \(fits(text)) THEN \(stored) ELSE \(plain) END"
    }

    /// A condition that is false when an assignment would refuse the text for its length, and that fails when it can't
    /// be read at all.
    func fits(_ text: String) -> String {
        let plain = "\(text)::\(base)"
        let stored = "\(plain)::\(description.type)::\(base)"
        if Self.bits.contains(description.baseTypeOID) { return "\(plain) IS NOT DISTINCT FROM \(stored)" }
        guard Self.characters.contains(description.baseTypeOID) else { return "(\(stored)) IS NULL IS NOT NULL" }
        // Blanks at the end may be cut, and bpchar does not see them.
        let blind = "pg_catalog.bpchar" + (description.category == "A" ? "[]" : "")
        return "\(plain)::\(blind) IS NOT DISTINCT FROM \(stored)::\(blind)"
    }

    /// What the row `t` holds, in the type that `value` has.
    var current: String { base == description.type ? "t.\(name)" : "t.\(name)::\(base)" }
}
