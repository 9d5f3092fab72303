import ReplicationCore

/// The `REVOKE` and `GRANT` statements that lead from one access list to another.
struct GrantScript {
    private let access: TableAccess
    private let desired: Set<AccessGrant>
    private var state: Set<AccessGrant>
    private var statements: [String] = []

    static func statements(from access: TableAccess, to desired: Set<AccessGrant>) -> [String] {
        var script = GrantScript(access: access, desired: desired)
        script.revoke()
        script.grant()
        return script.statements
    }

    private init(access: TableAccess, desired: Set<AccessGrant>) {
        self.access = access
        self.desired = desired
        state = access.grants
    }

    /// Grants of one kind that one statement can hold.
    private struct Group: Hashable, Comparable {
        var grantor: String
        var grantee: Grantee
        var isGrantable: Bool

        static func < (left: Group, right: Group) -> Bool {
            if left.grantor != right.grantor { return left.grantor < right.grantor }
            if left.grantee != right.grantee { return left.grantee < right.grantee }
            return !left.isGrantable && right.isGrantable
        }
    }

    private mutating func revoke() {
        // A grant that only gains the right to be granted on needs no revoke.
        let excess = state.subtracting(desired).filter { $0.isGrantable || !desired.contains($0.grantable(true)) }
        // What was granted onward goes first, or PostgreSQL refuses.
        for (group, grants) in grouped(excess, ignoringOption: true).reversed() {
            append("REVOKE", list(grants), "FROM \(group.grantee.sql)", by: group.grantor)
            let tableWide = Set(grants.filter { $0.column == nil }.map(\.privilege))
            // PostgreSQL takes the columns' grants of a privilege along with the table's.
            state = state.subtracting(grants).filter { grant in
                !(grant.column != nil && tableWide.contains(grant.privilege) && grant.grantee == group.grantee
                    && grant.grantor == group.grantor)
            }
        }
    }

    private mutating func grant() {
        for (group, grants) in grouped(desired.subtracting(state), ignoringOption: false) {
            let option = group.isGrantable ? " WITH GRANT OPTION" : ""
            append("GRANT", list(grants), "TO \(group.grantee.sql)\(option)", by: group.grantor)
        }
    }

    private func grouped(
        _ grants: Set<AccessGrant>, ignoringOption: Bool
    ) -> [(key: Group, value: Set<AccessGrant>)] {
        let groups = Dictionary(grouping: grants) { grant in
            Group(
                grantor: grant.grantor, grantee: grant.grantee, isGrantable: ignoringOption ? false : grant.isGrantable)
        }
        // The owner's grants first: others may rest on them.
        return groups.map { (key: $0.key, value: Set($0.value)) }.sorted { left, right in
            let leftIsOwners = left.key.grantor == access.owner
            if leftIsOwners != (right.key.grantor == access.owner) { return leftIsOwners }
            return left.key < right.key
        }
    }

    /// `DELETE, UPDATE ("a", "b")`.
    private func list(_ grants: Set<AccessGrant>) -> String {
        let byPrivilege = Dictionary(grouping: grants, by: \.privilege).sorted { $0.key < $1.key }
        let tableWide = byPrivilege.filter { $0.value.contains { $0.column == nil } }.map(\.key)
        let perColumn = byPrivilege.compactMap { privilege, grants -> String? in
            let columns = grants.compactMap(\.column).sorted()
            return columns.isEmpty ? nil : "\(privilege) (\(SQLText.list(columns)))"
        }
        return (tableWide + perColumn).joined(separator: ", ")
    }

    private mutating func append(_ verb: String, _ privileges: String, _ tail: String, by grantor: String) {
        let statement = "\(verb) \(privileges) ON TABLE \(access.table.sql) \(tail);"
        // PostgreSQL records the owner as grantor for whoever acts for the owner; others must do it themselves.
        if grantor == access.owner {
            statements.append(statement)
        } else {
            statements += ["SET LOCAL ROLE \(SQLText.identifier(grantor));", statement, "RESET ROLE;"]
        }
    }
}
