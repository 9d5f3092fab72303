/// What a split cannot carry. The direction stops before the transaction.
public enum SplitError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Shared columns need the whole old row.
    case needsFullIdentity(QualifiedName)
    /// A deleted row does not tell the column, by which it, or what refers to it, is found.
    case outsideIdentity(QualifiedName, String)
    case missingMatchColumn(QualifiedName, String)
    /// The column's values differ between the two databases, so that it identifies nothing.
    case referenceInMatch(QualifiedName, String)
    /// `TRUNCATE` names no rows, so nothing that is concurrent with it can be told apart.
    case truncated(QualifiedName)
    /// A note in an applied transaction that this version cannot read.
    case unreadableNote

    public var description: String {
        switch self {
        case .needsFullIdentity(let table):
            "A change of table \(table) does not carry the old row, which says what was written: ALTER TABLE \(table.sql) "
                + "REPLICA IDENTITY FULL, and the same for every partition."
        case .outsideIdentity(let table, let column):
            "Column \(table).\(column) is not in the table's replica identity, so that a delete does not say which row: "
                + "ALTER TABLE \(table.sql) REPLICA IDENTITY FULL."
        case .missingMatchColumn(let table, let column):
            "Match column \(table).\(column) is not in the stream."
        case .referenceInMatch(let table, let column):
            "Match column \(table).\(column) refers to a key that differs between the databases."
        case .truncated(let table):
            "Table \(table) was truncated, which a split cannot carry across. Use DELETE."
        case .unreadableNote:
            "An applied transaction carries a note that this version of Lindero cannot read."
        }
    }
}
