import ReplicationCore

/// Why column ownership cannot be guarded, and what to do about it.
public enum GuardProblem: Error, Sendable, Equatable, CustomStringConvertible {
    /// No side lists a role that could be guarded.
    case noRoles
    case sideWithoutRoles(side: String)
    case roleMissing(role: String, side: String, suggestion: String?)
    case roleOnTwoSides(role: String, sides: [String])
    /// A role can act as a role of another side.
    case memberOfOtherSide(role: String, side: String, other: String, otherSide: String)
    /// Privileges don't bind superusers.
    case superuser(role: String, side: String)
    /// Privileges don't bind a table's owner, nor who can act as the owner.
    case actsAsOwner(role: String, owner: String, tables: [QualifiedName])
    /// The role has more rights than its side through a role that Lindero does not guard.
    case inherits(role: String, from: String, table: QualifiedName, privileges: [String])
    /// The role is a member of `pg_write_all_data`.
    case writesAllData(role: String)
    /// The role granted on what it has to lose.
    case grantedOnward(role: String, privilege: String, table: QualifiedName, grantee: String)
    /// Until PostgreSQL 15, CREATEROLE is the right to become a member of any role but superusers.
    case createsRoles(role: String, holder: String)
    case memberOfSuperuser(role: String, superuser: String)
    /// The connection's role cannot act as a role whose grants must change.
    case notGrantor(role: String, grantor: String, table: QualifiedName)
    /// The connection's role may not change the table's grants.
    case notAdministrator(role: String, owner: String, table: QualifiedName)

    public var description: String { "\(what) \(fix)" }

    private var what: String {
        switch self {
        case .noRoles, .sideWithoutRoles:
            return missingRoles
        case .roleMissing(let role, let side, let suggestion):
            let hint = suggestion.map { " (did you mean \"\($0)\"?)" } ?? ""
            return "Role \"\(role)\" of side \(side) does not exist\(hint)."
        case .roleOnTwoSides(let role, let sides):
            return "Role \"\(role)\" serves \(sides.joined(separator: " and ")), so PostgreSQL cannot tell them apart."
        case .memberOfOtherSide(let role, let side, let other, let otherSide):
            return "Role \"\(role)\" of side \(side) is a member of \"\(other)\" of side \(otherSide)."
        case .superuser(let role, let side):
            return "Role \"\(role)\" of side \(side) is a superuser, which no grant restrains."
        case .actsAsOwner(let role, let owner, let tables):
            let names = tables.map { "\"\($0)\"" }.joined(separator: ", ")
            let how = role == owner ? "owns" : "can act as \"\(owner)\", the owner of"
            return "Role \"\(role)\" \(how) \(names), and no grant restrains an owner."
        case .inherits(let role, let from, let table, let privileges):
            return
                "Role \"\(role)\" has \(privileges.joined(separator: ", ")) on \"\(table)\" as a member of \"\(from)\"."
        case .writesAllData(let role):
            return "Role \"\(role)\" may write every table as a member of pg_write_all_data."
        case .grantedOnward(let role, let privilege, let table, let grantee):
            return "Role \"\(role)\" granted \(privilege) on \"\(table)\" on to \"\(grantee)\"."
        case .createsRoles(let role, let holder):
            let how = role == holder ? "has CREATEROLE" : "is a member of \"\(holder)\", which has CREATEROLE"
            return "Role \"\(role)\" \(how), so before PostgreSQL 16 it can make itself a member of every owner."
        case .memberOfSuperuser(let role, let superuser):
            return "Role \"\(role)\" is a member of the superuser \"\(superuser)\", which no grant restrains."
        case .notGrantor(let role, let grantor, let table):
            return "Role \"\(role)\" of this connection may not change what \"\(grantor)\" granted on \"\(table)\"."
        case .notAdministrator(let role, let owner, let table):
            return "Role \"\(role)\" of this connection may not change the grants of \"\(table)\"."
                + " Its owner is \"\(owner)\"."
        }
    }

    private var missingRoles: String {
        if case .sideWithoutRoles(let side) = self {
            return "Side \(side) has no roles, so nothing restrains its service."
        }
        return "The configuration names no database role."
    }

    private var fix: String {
        func quoted(_ name: String) -> String { SQLText.identifier(name) }
        switch self {
        case .noRoles, .sideWithoutRoles:
            return "List them in lindero.yaml: databases: { bot: { url: …, roles: [bot_app] } }."
        case .roleMissing(let role, _, _):
            return "Correct the name in lindero.yaml, or run CREATE ROLE \(quoted(role)) LOGIN;"
        case .roleOnTwoSides:
            return "Give each service a role of its own, and name it under its side in lindero.yaml."
        case .memberOfOtherSide(let role, _, let other, _):
            return "Run REVOKE \(quoted(other)) FROM \(quoted(role));"
        case .superuser(let role, _):
            return "Run ALTER ROLE \(quoted(role)) NOSUPERUSER; or use --mode audit."
        case .actsAsOwner(let role, let owner, let tables):
            guard role == owner else { return "Run REVOKE \(quoted(owner)) FROM \(quoted(role)); or use --mode audit." }
            let name = quoted("\(owner)_owner")
            let moves = tables.map { "ALTER TABLE \($0.sql) OWNER TO \(name); GRANT SELECT ON \($0.sql) TO \(quoted(role));" }
            return
                "Give the tables an owner that no service logs in as, which then runs the schema migrations: "
                + "CREATE ROLE \(name) NOLOGIN; \(moves.joined(separator: " ")) Or use --mode audit."
        case .inherits(let role, let from, let table, let privileges):
            return "Run REVOKE \(quoted(from)) FROM \(quoted(role)); or "
                + "REVOKE \(privileges.joined(separator: ", ")) ON \(table.sql) FROM \(quoted(from));"
        case .writesAllData(let role):
            return "Run REVOKE pg_write_all_data FROM \(quoted(role));"
        case .grantedOnward(let role, let privilege, let table, let grantee):
            return "Run, as \(role), REVOKE \(privilege) ON \(table.sql) FROM \(quoted(grantee)); and grant it as the owner."
        case .createsRoles(let role, let holder):
            return role == holder
                ? "Run ALTER ROLE \(quoted(role)) NOCREATEROLE;"
                : "Run REVOKE \(quoted(holder)) FROM \(quoted(role)); or ALTER ROLE \(quoted(holder)) NOCREATEROLE;"
        case .memberOfSuperuser(let role, let superuser):
            return "Run REVOKE \(quoted(superuser)) FROM \(quoted(role)); or use --mode audit."
        case .notGrantor(let role, let grantor, _):
            return "Run GRANT \(quoted(grantor)) TO \(quoted(role)); or connect as a superuser."
        case .notAdministrator(_, let owner, _):
            return "Connect as \(quoted(owner)) or as a superuser."
        }
    }
}
