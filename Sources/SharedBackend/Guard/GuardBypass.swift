import ReplicationCore

/// Ways to write to guarded tables that their access lists don't show.
struct GuardBypass: Sendable, Equatable {
    /// A view through which a role may write with the view owner's rights.
    struct WritableView: Sendable, Equatable {
        var view: QualifiedName
        var table: QualifiedName
        var role: String
    }

    /// What new tables of an owner give to a role by themselves.
    struct DefaultGrant: Sendable, Equatable {
        /// Who makes the tables.
        var owner: String
        /// `nil` for every schema.
        var schema: String?
        var grantee: Grantee
        var privileges: [String]
    }

    var views: [WritableView] = []
    var defaults: [DefaultGrant] = []
}
