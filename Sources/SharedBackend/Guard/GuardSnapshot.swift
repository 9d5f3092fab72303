import ReplicationCore

/// A role as the server knows it.
struct RoleFacts: Sendable, Equatable {
    var isSuperuser: Bool
    var createsRoles = false
    /// Roles whose rights this one has or can take on, through any number of memberships.
    var memberOf: Set<String>
}

/// What the database says about guarded tables, and what Lindero wrote down when it guarded them.
struct GuardSnapshot: Sendable {
    /// The role that would carry a plan out.
    var currentRole: String
    /// Roles whose rights it has, and roles that it may change to.
    var mayUse: Set<String>
    var maySet: Set<String>
    var serverVersion: Int
    var roles: [String: RoleFacts]
    /// Tables under ownership, their partitions, and tables that were guarded before.
    var tables: [QualifiedName: TableAccess]
    /// The partitioned table of each partition.
    var rootOfPartition: [QualifiedName: QualifiedName]
    var records: [QualifiedName: GuardRecord]
    var triggers: Set<AuditTrigger.Installed>
    /// Source text of each function in schema `lindero` that a guard made, by name.
    var functions: [String: String]
    var bypass: GuardBypass

    /// Whether the role can act as the other: it is the same, a member, or a superuser.
    func acts(_ role: String, as other: String) -> Bool {
        guard let facts = roles[role] else { return false }
        return role == other || facts.isSuperuser || facts.memberOf.contains(other)
    }
}
