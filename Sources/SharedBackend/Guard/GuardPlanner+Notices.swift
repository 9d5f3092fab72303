import ReplicationCore

/// What a person should know about a guard, and decide alone.
extension GuardPlanner {
    mutating func noticeLost(_ grants: Set<AccessGrant>, of table: QualifiedName) {
        for grant in grants.sorted(by: { $0.privilege < $1.privilege }) {
            plan.notices.append(
                "\(grant.privilege) on \"\(table)\" is not given back to \(grant.grantee.sql): "
                    + "the role or the column no longer exists.")
        }
    }

    /// What became of a recorded table.
    mutating func notice(_ record: GuardRecord, _ access: TableAccess) {
        noticeLost(record.lostBefore.subtracting(record.lostAfter), of: record.table)
        let recorded = record.recordedName
        if record.match == .identity, record.isNameTaken {
            plan.notices.append(
                "Table \"\(recorded)\" was guarded and is called \"\(record.table)\" now: that one gets its grants back. "
                    + "What is called \"\(recorded)\" today is another table, and gets none of them.")
        } else if record.match == .successor {
            plan.notices.append(
                "Table \"\(recorded)\" was guarded and dropped; another table has its name, and is treated as the same.")
        } else if record.isChanged(access) {
            plan.notices.append(
                "Somebody changed the grants of \"\(recorded)\" after the guard was applied; those changes are kept.")
        }
    }

    mutating func noticePublic(_ access: TableAccess, _ desired: Set<AccessGrant>) {
        let lost = access.grants.subtracting(desired).filter { $0.grantee == .everyone }
        guard !lost.isEmpty else { return }
        let privileges = Set(lost.map(\.privilege)).sorted().joined(separator: ", ")
        plan.notices.append(
            "PUBLIC loses \(privileges) on \"\(access.table)\"; a role that is not in lindero.yaml and wrote through it "
                + "needs a grant of its own.")
    }

    /// Ways around the guard.
    mutating func noticeBypass() {
        guard mode == .enforce else { return }
        for view in snapshot.bypass.views {
            plan.notices.append(
                "Role \"\(view.role)\" may write to \"\(view.table)\" through the view \"\(view.view)\", with the rights of "
                    + "the view's owner. Revoke that, or make the view security_invoker.")
        }
        for grant in snapshot.bypass.defaults { notice(grant) }
    }

    private mutating func notice(_ grant: GuardBypass.DefaultGrant) {
        let privileges = grant.privileges.joined(separator: ", ")
        let place = grant.schema.map { " in schema \"\($0)\"" } ?? ""
        let clause = grant.schema.map { " IN SCHEMA \(SQLText.identifier($0))" } ?? ""
        plan.notices.append(
            "Default privileges give \(privileges) to \(grant.grantee.sql) on every table and partition that "
                + "\"\(grant.owner)\" makes\(place) from now on, past the guard. Run ALTER DEFAULT PRIVILEGES FOR ROLE "
                + "\(SQLText.identifier(grant.owner))\(clause) REVOKE \(privileges) ON TABLES FROM \(grant.grantee.sql); "
                + "or run lindero guard apply after each new table.")
    }
}
