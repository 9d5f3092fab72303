import ReplicationCore

/// Who holds a privilege.
public enum Grantee: Sendable, Hashable, Comparable {
    /// `PUBLIC`: every role.
    case everyone
    case role(String)

    var sql: String {
        switch self {
        case .everyone: "PUBLIC"
        case .role(let name): SQLText.identifier(name)
        }
    }
}

/// One entry of an access list: who may do what, on a table or on one of its columns.
public struct AccessGrant: Sendable, Hashable {
    /// PostgreSQL's word: `INSERT`, `UPDATE`, `DELETE`, …
    public var privilege: String
    /// `nil` for the whole table.
    public var column: String?
    public var grantee: Grantee
    public var grantor: String
    /// Whether the grantee may grant it on.
    public var isGrantable: Bool

    public init(
        _ privilege: String, column: String? = nil, to grantee: Grantee, by grantor: String, isGrantable: Bool = false
    ) {
        self.privilege = privilege
        self.column = column
        self.grantee = grantee
        self.grantor = grantor
        self.isGrantable = isGrantable
    }

    /// Privileges by which a role can change rows, or what happens to them. `TRIGGER` is one: a trigger runs with
    /// the rights of whoever writes, and may change any column.
    static let writePrivileges: Set<String> = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"]

    var isWrite: Bool { Self.writePrivileges.contains(privilege) }

    /// The same grant with or without the right to grant it on.
    func grantable(_ isGrantable: Bool) -> AccessGrant {
        var copy = self
        copy.isGrantable = isGrantable
        return copy
    }
}

/// The access lists of one table and of its columns.
public struct TableAccess: Sendable, Equatable {
    public var table: QualifiedName
    public var owner: String
    public var columns: Set<String>
    public var grants: Set<AccessGrant>

    public init(table: QualifiedName, owner: String, columns: Set<String>, grants: Set<AccessGrant>) {
        self.table = table
        self.owner = owner
        self.columns = columns
        self.grants = grants
    }
}
