import ReplicationCore

/// What the access lists of guarded tables don't show: ways around them, and what it takes besides them.
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

    /// A function that a role can run, and that runs with the rights of an owner who may write to guarded tables.
    struct DefinerFunction: Sendable, Equatable {
        /// As SQL names it, with its arguments.
        var function: String
        var owner: String
        var role: String
        /// Whether a trigger runs it.
        var isTrigger: Bool
    }

    /// A sequence that fills a column of a new row, and that a role may not use.
    struct ClosedSequence: Sendable, Equatable {
        var table: QualifiedName
        var sequence: QualifiedName
        var role: String
    }

    /// A foreign key of a guarded table that writes there when somebody writes to the table it refers to.
    struct ReferentialAction: Sendable, Equatable {
        /// As `pg_constraint` has them.
        enum Kind: String, Sendable {
            case cascade = "c"
            case setNull = "n"
            case setDefault = "d"
        }

        var constraint: String
        var table: QualifiedName
        var referenced: QualifiedName
        /// `nil` where it writes nothing.
        var onDelete: Kind?
        var onUpdate: Kind?
        var columns: [String]
        var referencedColumns: [String]
        /// `ON DELETE SET NULL (column)` sets some of them.
        var columnsSetOnDelete: [String]
    }

    /// A table that inherits from a guarded one, and that a role may write.
    struct Heir: Sendable, Equatable {
        var table: QualifiedName
        var parent: QualifiedName
        var role: String
    }

    /// A role that may act as the owner of a guarded table's schema.
    struct SchemaOwner: Sendable, Equatable {
        var schema: String
        var role: String
        var owner: String
    }

    var views: [WritableView] = []
    var functions: [DefinerFunction] = []
    var sequences: [ClosedSequence] = []
    var defaults: [DefaultGrant] = []
    var actions: [ReferentialAction] = []
    var heirs: [Heir] = []
    var schemaOwners: [SchemaOwner] = []
}
