import ReplicationCore

/// What stands in the way of a guard.
extension GuardPlanner {
    mutating func checkRoles() {
        if sides.allSatisfy({ $0.roles.isEmpty }) {
            plan.problems.append(.noRoles)
            return
        }
        for side in sides {
            if side.roles.isEmpty { plan.problems.append(.sideWithoutRoles(side: side.name)) }
            for role in side.roles { check(role, of: side) }
        }
        noticeBypass()
    }

    private mutating func check(_ role: String, of side: GuardSide) {
        guard let facts = snapshot.roles[role] else {
            let nearest = NearestWord.among(snapshot.roles.keys.filter { !$0.hasPrefix("pg_") }.sorted(), to: role)
            plan.problems.append(.roleMissing(role: role, side: side.name, suggestion: nearest))
            return
        }
        let serving = sides.filter { $0.roles.contains(role) }.map(\.name)
        if serving.count > 1 { plan.problems.append(.roleOnTwoSides(role: role, sides: serving)) }
        guard mode == .enforce else { return }
        if facts.isSuperuser {
            plan.problems.append(.superuser(role: role, side: side.name))
            return
        }
        for holder in [role] + facts.memberOf.sorted() {
            guard let held = snapshot.roles[holder] else { continue }
            if held.isSuperuser { plan.problems.append(.memberOfSuperuser(role: role, superuser: holder)) }
            // From 16 on that takes ADMIN of the other role, which makes a member.
            if held.createsRoles, snapshot.serverVersion < 160_000 {
                plan.problems.append(.createsRoles(role: role, holder: holder))
            }
        }
        for other in sides where other.name != side.name {
            for otherRole in other.roles where facts.memberOf.contains(otherRole) {
                plan.problems.append(
                    .memberOfOtherSide(role: role, side: side.name, other: otherRole, otherSide: other.name))
            }
        }
        if facts.memberOf.contains("pg_write_all_data") { plan.problems.append(.writesAllData(role: role)) }
        let owned = Dictionary(grouping: snapshot.tables.values.filter { isGoverned($0.table) }, by: \.owner)
        for (owner, tables) in owned.sorted(by: { $0.key < $1.key }) where snapshot.acts(role, as: owner) {
            plan.problems.append(.actsAsOwner(role: role, owner: owner, tables: tables.map(\.table).sorted()))
        }
    }

    func isGoverned(_ table: QualifiedName) -> Bool {
        policy.tables[snapshot.rootOfPartition[table] ?? table] != nil
    }

    /// Rights that come another way than by a side's own grants.
    mutating func checkTable(_ original: TableAccess, _ desired: Set<AccessGrant>) {
        let root = snapshot.rootOfPartition[original.table] ?? original.table
        guard let ownership = policy.tables[root] else { return }
        let rights = self.rights(ownership, root)
        for (role, side) in sideOfRole.sorted(by: { $0.key < $1.key }) {
            guard let rights = rights[side], let facts = snapshot.roles[role], !facts.isSuperuser else { continue }
            var excess: [String: Set<String>] = [:]
            for grant in desired where grant.isWrite && !rights.allows(grant) {
                guard case .role(let holder) = grant.grantee, holder != role, holder != original.owner,
                    sideOfRole[holder] == nil, facts.memberOf.contains(holder)
                else { continue }
                let column = grant.column.map { " (\(SQLText.identifier($0)))" } ?? ""
                excess[holder, default: []].insert(grant.privilege + column)
            }
            for (holder, privileges) in excess.sorted(by: { $0.key < $1.key }) {
                plan.problems.append(
                    .inherits(role: role, from: holder, table: original.table, privileges: privileges.sorted()))
            }
            for grant in original.grants where grant.isWrite && grant.grantor == role && role != original.owner {
                plan.problems.append(
                    .grantedOnward(
                        role: role, privilege: grant.privilege, table: original.table,
                        grantee: grant.grantee == .everyone ? "PUBLIC" : name(grant.grantee)))
            }
        }
    }

    func name(_ grantee: Grantee) -> String {
        switch grantee {
        case .everyone: "PUBLIC"
        case .role(let role): role
        }
    }

    /// Whether this connection may change the grants: as the owner, and as whoever else made them.
    mutating func checkAdministrator(of access: TableAccess, changed: Set<AccessGrant>) {
        let role = snapshot.currentRole
        if !snapshot.mayUse.contains(access.owner) {
            plan.problems.append(.notAdministrator(role: role, owner: access.owner, table: access.table))
        }
        for grantor in Set(changed.map(\.grantor)).sorted() where grantor != access.owner && !snapshot.maySet.contains(grantor) {
            plan.problems.append(.notGrantor(role: role, grantor: grantor, table: access.table))
        }
    }
}
