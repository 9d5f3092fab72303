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
        // What it lost before is told already: these are today's grants.
        let lost = access.grants.subtracting(desired).filter { $0.grantee == .everyone && $0.isWrite }
        guard !lost.isEmpty else { return }
        let privileges = Set(lost.map(\.privilege)).sorted().joined(separator: ", ")
        plan.notices.append(
            "PUBLIC loses \(privileges) on \"\(access.table)\"; a role that is not in lindero.yaml and wrote through it "
                + "needs a grant of its own.")
    }

    /// Ways around the guard, and what it takes besides.
    mutating func noticeBypass() {
        noticeFunctions()
        noticeOtherTables()
        guard mode == .enforce else { return }
        for view in snapshot.bypass.views {
            plan.notices.append(
                "Role \"\(view.role)\" may write to \"\(view.table)\" through the view \"\(view.view)\", with the rights of "
                    + "the view's owner. Revoke that, or make the view security_invoker.")
        }
        for grant in snapshot.bypass.defaults { notice(grant) }
        for closed in snapshot.bypass.sequences { notice(closed) }
    }

    private mutating func noticeFunctions() {
        let byRole = Dictionary(grouping: snapshot.bypass.functions, by: \.role)
        for (role, functions) in byRole.sorted(by: { $0.key < $1.key }) {
            let named = functions.prefix(8).map { function in
                "\(function.function)\(function.isTrigger ? " in a trigger" : "") as \"\(function.owner)\""
            }
            let others = functions.count > named.count ? ", and \(functions.count - named.count) more" : ""
            plan.notices.append(
                "Role \"\(role)\" runs SECURITY DEFINER functions whose owners may write to guarded tables: "
                    + "\(named.joined(separator: ", "))\(others). What they write is the owner's, so it is neither refused nor "
                    + "recorded. See that they keep to the side's columns, or revoke EXECUTE from PUBLIC and the role.")
        }
    }

    private mutating func notice(_ closed: GuardBypass.ClosedSequence) {
        guard let side = sideOfRole[closed.role], policy.tables[closed.table]?.insertOwners.contains(side) == true
        else { return }
        plan.notices.append(
            "Role \"\(closed.role)\" may insert into \"\(closed.table)\" and not use its sequence. Run "
                + "GRANT USAGE ON SEQUENCE \(closed.sequence.sql) TO \(SQLText.identifier(closed.role));")
    }

    /// Remembers who else may write.
    mutating func noteUnlisted(_ original: TableAccess, _ desired: Set<AccessGrant>) {
        for grant in desired where grant.isWrite {
            guard case .role(let role) = grant.grantee, role != original.owner, sideOfRole[role] == nil,
                snapshot.roles[role]?.isSuperuser == false
            else { continue }
            unlisted[role, default: []].insert(original.table)
        }
    }

    /// A guard binds the roles that the configuration lists.
    mutating func noticeUnlisted() {
        for (role, facts) in snapshot.roles
        where facts.memberOf.contains("pg_write_all_data") && !facts.isSuperuser && sideOfRole[role] == nil {
            unlisted[role, default: []].formUnion(policy.tables.keys)
        }
        guard !unlisted.isEmpty else { return }
        let roles = unlisted.sorted { $0.key < $1.key }.map { role, tables in
            let names = tables.sorted().prefix(5).map { "\"\($0)\"" }.joined(separator: ", ")
            return "\"\(role)\" (\(names)\(tables.count > 5 ? ", …" : ""))"
        }
        let meaning = mode == .audit ? "what they write is recorded as \(TableAudit.unlisted)" : "nothing restrains them"
        plan.notices.append(
            "Roles that lindero.yaml does not list may write to guarded tables, and \(meaning): "
                + "\(roles.joined(separator: ", ")). List them under a database's roles, or revoke that.")
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
