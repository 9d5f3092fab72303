import ReplicationCore

/// Works out a `GuardPlan` from what the configuration wants and what the database says. No I/O.
struct GuardPlanner {
    let mode: GuardMode?
    let policy: OwnershipPolicy
    let descriptions: [QualifiedName: TableDescription]
    let sides: [GuardSide]
    let snapshot: GuardSnapshot

    var plan: GuardPlan
    /// Audit functions that stay in use.
    private var keptFunctions: Set<String> = []
    /// Roles of no side that may write, and what.
    var unlisted: [String: Set<QualifiedName>] = [:]
    /// The side of each configured role that exists and serves one side.
    let sideOfRole: [String: String]

    static func plan(
        mode: GuardMode?, policy: OwnershipPolicy, descriptions: [TableDescription], sides: [GuardSide],
        snapshot: GuardSnapshot
    ) -> GuardPlan {
        var planner = GuardPlanner(
            mode: mode, policy: policy,
            descriptions: Dictionary(descriptions.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }),
            sides: sides, snapshot: snapshot)
        planner.build()
        return planner.plan
    }

    private init(
        mode: GuardMode?, policy: OwnershipPolicy, descriptions: [QualifiedName: TableDescription],
        sides: [GuardSide], snapshot: GuardSnapshot
    ) {
        self.mode = mode
        self.policy = policy
        self.descriptions = descriptions
        self.sides = sides
        self.snapshot = snapshot
        plan = GuardPlan(mode: mode)
        var sideOfRole: [String: String] = [:]
        for side in sides { for role in side.roles { sideOfRole[role] = side.name } }
        self.sideOfRole = sideOfRole.filter { snapshot.roles[$0.key] != nil }
    }

    private mutating func build() {
        if mode != nil { checkRoles() }
        for name in Set(snapshot.tables.keys).union(snapshot.records.keys).sorted() {
            guard let access = snapshot.tables[name] else {
                plan.notices.append("Table \"\(name)\" was guarded and no longer exists; its record is dropped.")
                plan.released.append(name)
                continue
            }
            build(name, access)
        }
        dropFunctions()
        if mode != nil { noticeUnlisted() }
        plan.problems = plan.problems.reduce(into: []) { kept, problem in
            if !kept.contains(problem) { kept.append(problem) }
        }
    }

    private mutating func build(_ name: QualifiedName, _ access: TableAccess) {
        let record = snapshot.records[name]
        if let record { notice(record, access) }
        var original = access
        original.grants = restorable(record?.undone(from: access) ?? access.grants, of: access)
        let root = snapshot.rootOfPartition[name] ?? name
        let ownership = mode == nil ? nil : policy.tables[root]
        var desired = original.grants
        if let ownership, mode == .enforce {
            desired = enforced(original, ownership, root: root)
            noticePublic(access, desired)
            checkTable(original, desired)
        }
        if ownership != nil { noteUnlisted(original, desired) }
        let audit = mode == .audit && root == name ? ownership.flatMap { self.audit(name, $0) } : nil
        var statements = auditStatements(name, audit)
        let grants = GrantScript.statements(from: access, to: desired)
        statements += grants
        if ownership != nil {
            plan.originals[name] = original
        } else if record != nil {
            plan.released.append(name)
        }
        guard !statements.isEmpty else { return }
        checkAdministrator(of: access, changed: access.grants.symmetricDifference(desired))
        plan.changes.append(GuardPlan.TableChange(table: name, statements: statements))
    }

    /// Roles and columns that are gone cannot be granted again.
    private mutating func restorable(_ grants: Set<AccessGrant>, of access: TableAccess) -> Set<AccessGrant> {
        let lost = grants.subtracting(access.grants).filter { grant in
            if let column = grant.column, !access.columns.contains(column) { return true }
            if case .role(let role) = grant.grantee, snapshot.roles[role] == nil { return true }
            return snapshot.roles[grant.grantor] == nil
        }
        noticeLost(lost, of: access.table)
        return grants.subtracting(lost)
    }

    // MARK: enforce

    /// The access list under which each side's roles can write what their side may, and nothing else.
    private mutating func enforced(
        _ access: TableAccess, _ ownership: TableOwnership, root: QualifiedName
    ) -> Set<AccessGrant> {
        let rights = self.rights(ownership, root)
        let isPartition = root != access.table
        var desired: Set<AccessGrant> = []
        for grant in access.grants {
            guard grant.isWrite else {
                desired.insert(grant)
                continue
            }
            switch grant.grantee {
            case .everyone:
                // What everybody holds, every side holds.
                if rights.values.allSatisfy({ $0.allows(grant) }) { desired.insert(grant) }
            case .role(let role):
                guard let side = sideOfRole[role], role != access.owner, let rights = rights[side] else {
                    desired.insert(grant)
                    continue
                }
                // Without the right to grant on: a service could hand its columns to another.
                if rights.allows(grant) { desired.insert(grant.grantable(false)) }
            }
        }
        for (role, side) in sideOfRole where role != access.owner {
            guard let rights = rights[side] else { continue }
            for grant in rights.grants(to: role, by: access.owner) where !Self.holds(desired, grant) {
                // A partition is written through its root; only what a role held on it directly is kept.
                if isPartition, !Self.holds(access.grants, grant) { continue }
                desired.insert(grant)
            }
        }
        return desired
    }

    func rights(_ ownership: TableOwnership, _ root: QualifiedName) -> [String: ColumnRights] {
        let primaryKey = descriptions[root]?.primaryKey ?? []
        return Dictionary(
            sides.map { ($0.name, ColumnRights(ownership, side: $0.name, primaryKey: primaryKey)) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Whether the grantee has the privilege already, on the column or on the whole table, whoever granted it.
    private static func holds(_ grants: Set<AccessGrant>, _ wanted: AccessGrant) -> Bool {
        grants.contains { grant in
            grant.privilege == wanted.privilege && grant.grantee == wanted.grantee
                && (grant.column == nil || grant.column == wanted.column)
        }
    }

    // MARK: audit

    private func audit(_ name: QualifiedName, _ ownership: TableOwnership) -> TableAudit? {
        guard let table = descriptions[name] else { return nil }
        let rights = self.rights(ownership, name)
        var parties = sides.compactMap { side -> TableAudit.Party? in
            let roles = side.roles.filter { sideOfRole[$0] == side.name }
            guard !roles.isEmpty, let rights = rights[side.name] else { return nil }
            return TableAudit.Party(side: side.name, roles: roles, rights: rights)
        }
        guard !parties.isEmpty else { return nil }
        let none = ColumnRights(ownership, side: TableAudit.unlisted, primaryKey: table.primaryKey)
        parties.append(TableAudit.Party(side: TableAudit.unlisted, roles: [], rights: none))
        return TableAudit(table: table, ownership: ownership, parties: parties)
    }

    private mutating func auditStatements(_ name: QualifiedName, _ audit: TableAudit?) -> [String] {
        let installed = snapshot.triggers.filter { $0.table == name }
        let wanted = audit?.triggers ?? []
        let kept = installed.intersection(wanted.map(\.installed))
        var statements = installed.subtracting(kept).sorted { $0.name < $1.name }.map {
            "DROP TRIGGER \(SQLText.identifier($0.name)) ON \(name.sql);"
        }
        if let audit, !wanted.isEmpty, snapshot.functions[audit.functionName] != audit.functionSource {
            statements.append(audit.functionStatement)
            statements.append("REVOKE ALL ON FUNCTION lindero.\(SQLText.identifier(audit.functionName))() FROM PUBLIC;")
        }
        statements += wanted.filter { !kept.contains($0.installed) }.map(\.sql)
        if let audit, !wanted.isEmpty { keptFunctions.insert(audit.functionName) }
        return statements
    }

    /// Functions that no table needs any more; last, since triggers of renamed tables may still name them before.
    private mutating func dropFunctions() {
        for name in snapshot.functions.keys.sorted() where !keptFunctions.contains(name) {
            let function = QualifiedName(schema: "lindero", name: name)
            plan.changes.append(
                GuardPlan.TableChange(table: function, statements: ["DROP FUNCTION \(function.sql)();"]))
        }
    }
}
