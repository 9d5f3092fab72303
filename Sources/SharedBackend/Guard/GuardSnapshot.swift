import ReplicationCore

/// A role as the server knows it.
struct RoleFacts: Sendable, Equatable {
    var isSuperuser: Bool
    /// Roles whose rights this one has or can take on, through any number of memberships.
    var memberOf: Set<String>
}

/// What the database says about guarded tables, and what Lindero wrote down when it guarded them.
struct GuardSnapshot: Sendable {
    /// The role that would carry a plan out.
    var currentRole: String
    var roles: [String: RoleFacts]
    /// Tables under ownership, their partitions, and tables that were guarded before.
    var tables: [QualifiedName: TableAccess]
    /// The partitioned table of each partition.
    var rootOfPartition: [QualifiedName: QualifiedName]
    var records: [QualifiedName: GuardRecord]
    var triggers: Set<AuditTrigger.Installed>
    /// Source text of each function in schema `lindero` that a guard made, by name.
    var functions: [String: String]
    /// Views through which a role of a side may write to a guarded table with the view owner's rights.
    var writableViews: [WritableView]

    struct WritableView: Sendable, Equatable {
        var view: QualifiedName
        var table: QualifiedName
        var role: String
    }

    /// Whether the role can act as the other: it is the same, a member, or a superuser.
    func acts(_ role: String, as other: String) -> Bool {
        guard let facts = roles[role] else { return false }
        return role == other || facts.isSuperuser || facts.memberOf.contains(other)
    }
}

/// What Lindero wrote down about a table when it guarded it.
struct GuardRecord: Sendable, Equatable {
    var table: QualifiedName
    var owner: String
    var mode: GuardMode
    var before: Set<AccessGrant>
    var after: Set<AccessGrant>

    /// The access list as it would be without the guard: what the guard took is given back, what it gave is taken,
    /// and what others changed since then stays.
    func undone(from access: TableAccess) -> Set<AccessGrant> {
        let before = renamed(before, owner: access.owner)
        let after = renamed(after, owner: access.owner)
        var result = access.grants.subtracting(after.subtracting(before)).union(before.subtracting(after))
        // One holder has a privilege from one grantor once, with or without the right to grant it on.
        for grant in result where grant.isGrantable { result.remove(grant.grantable(false)) }
        return result
    }

    /// Whether somebody else changed the access list since the guard.
    func isChanged(_ access: TableAccess) -> Bool { renamed(after, owner: access.owner) != access.grants }

    /// A new owner takes the old one's place in a table's access lists.
    private func renamed(_ grants: Set<AccessGrant>, owner newOwner: String) -> Set<AccessGrant> {
        guard newOwner != owner else { return grants }
        return Set(
            grants.map { grant in
                var copy = grant
                if copy.grantor == owner { copy.grantor = newOwner }
                if copy.grantee == .role(owner) { copy.grantee = .role(newOwner) }
                return copy
            })
    }
}
