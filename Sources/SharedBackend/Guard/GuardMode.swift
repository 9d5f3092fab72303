import ReplicationCore

/// What the database does about a write to a column that another side owns.
public enum GuardMode: String, Sendable, CaseIterable {
    /// PostgreSQL refuses it with SQLSTATE 42501. The refused transaction leaves no trace in the database, so
    /// refusals are counted by the client that gets them, or in the server's log.
    case enforce
    /// It passes, and `lindero.audit` records it.
    case audit
}

/// One of the services that share the database: its name in the configuration, and its database roles.
struct GuardSide: Sendable, Equatable {
    var name: String
    var roles: [String]

    static func all(_ configuration: LinderoConfiguration) -> [GuardSide] {
        configuration.databases.filter { !$0.isPhysicalStandby }.map { GuardSide(name: $0.name, roles: $0.roles) }
    }
}
