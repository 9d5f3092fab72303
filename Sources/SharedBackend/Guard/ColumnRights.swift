import ReplicationCore

/// What one side may write of one table.
struct ColumnRights: Sendable, Equatable {
    /// Columns that the side may fill when it inserts a row; empty when it may not insert.
    var insertable: Set<String>
    var updatable: Set<String>
    var mayInsert: Bool
    var mayDelete: Bool
    /// Whether every column that can be written is insertable, and updatable.
    var insertsEverything: Bool
    var updatesEverything: Bool

    /// - Parameter primaryKey: with the match columns, what a new row cannot be without.
    init(_ ownership: TableOwnership, side: String, primaryKey: [String]) {
        updatable = Set(ownership.columns.keys.filter { ownership.mayWrite($0, side: side) })
        mayInsert = ownership.insertOwners.contains(side)
        mayDelete = ownership.deleteOwners.contains(side)
        let keys = (ownership.match + primaryKey).filter { ownership.columns[$0] != nil }
        insertable = mayInsert ? updatable.union(keys) : []
        insertsEverything = mayInsert && insertable.count == ownership.columns.count
        updatesEverything = updatable.count == ownership.columns.count
    }

    /// Whether a grant gives no more than these rights.
    func allows(_ grant: AccessGrant) -> Bool {
        switch (grant.privilege, grant.column) {
        case ("INSERT", nil): insertsEverything
        case ("UPDATE", nil): updatesEverything
        case ("INSERT", let column?): insertable.contains(column)
        case ("UPDATE", let column?): updatable.contains(column)
        case ("DELETE", _), ("TRUNCATE", _): mayDelete
        case ("TRIGGER", _): false
        default: true
        }
    }

    /// Every grant that the side's role needs, by the table's owner.
    func grants(to role: String, by owner: String) -> [AccessGrant] {
        var grants: [AccessGrant] = []
        func add(_ privilege: String, _ columns: Set<String>, whole: Bool) {
            if whole {
                grants.append(AccessGrant(privilege, to: .role(role), by: owner))
            } else {
                grants += columns.map { AccessGrant(privilege, column: $0, to: .role(role), by: owner) }
            }
        }
        add("INSERT", insertable, whole: insertsEverything)
        add("UPDATE", updatable, whole: updatesEverything)
        if mayDelete { grants.append(AccessGrant("DELETE", to: .role(role), by: owner)) }
        return grants
    }
}
