import PostgresClient
import ReplicationCore

/// What `cutover.fence: strict` asks of Lindero's role on a side: the fence locks tables and leaves triggers there, its canary acts as
/// each writing role, and sessions that wait at it are ended.
struct FenceChecks {
    struct Table: Sendable, Equatable {
        var name: QualifiedName
        var owner: String
        /// Whether the role is its owner, or as good as it.
        var actsAsOwner: Bool
    }

    /// A role of a service, or another one that may write.
    struct Role: Sendable, Equatable {
        var name: String
        var isSuperuser: Bool
        var mayBecome: Bool
        var mayEnd: Bool
        var isService: Bool
    }

    let database: String
    let user: String
    /// Whether services are about to move; else the way back is meant, later.
    let movesServices: Bool
    var tables: [Table] = []
    var roles: [Role] = []
    var seesSessions = true

    func findings() -> [PreflightFinding] {
        let sqlUser = SQLText.identifier(user)
        var findings = tables.filter { !$0.actsAsOwner }.map { table in
            finding(
                movesServices ? .blocker : .warning, table.name.description,
                "role \(user) can't put up a strict fence around table \(table.name), whose owner is \(table.owner)",
                fix: "GRANT \(SQLText.identifier(table.owner)) TO \(sqlUser); or ALTER TABLE \(table.name.sql) OWNER TO \(sqlUser);")
        }
        let foreign = roles.filter { !$0.mayBecome && !$0.isSuperuser }.map(\.name)
        if !foreign.isEmpty {
            findings.append(
                finding(
                    .warning, user, "role \(user) may not act as \(foreign.joined(separator: ", ")): the fence's canary would not be tried as them",
                    fix: "GRANT \(foreign.map(SQLText.identifier).joined(separator: ", ")) TO \(sqlUser);"))
        }
        let lasting = roles.filter { $0.isService && !$0.mayEnd }.map(\.name)
        if !lasting.isEmpty {
            findings.append(
                finding(
                    .warning, user,
                    "role \(user) may not end sessions of \(lasting.joined(separator: ", ")): one that waits at the fence stays until it goes by itself",
                    fix: "GRANT pg_signal_backend TO \(sqlUser);"))
        }
        if !seesSessions {
            findings.append(
                finding(
                    .warning, user, "role \(user) does not see what other sessions do: who keeps the fence waiting could not be named",
                    fix: "GRANT pg_read_all_stats TO \(sqlUser);"))
        }
        return findings
    }

    private func finding(_ severity: PreflightFinding.Severity, _ object: String, _ message: String, fix: String) -> PreflightFinding {
        PreflightFinding(severity, .fencePrivilege, database: database, object: object, message, fix: fix)
    }

    // MARK: reading

    static func read(
        _ side: PreflightSide, tables names: [QualifiedName], services: [String], movesServices: Bool
    ) async throws(PostgresError) -> FenceChecks {
        var checks = FenceChecks(database: side.name, user: side.facts.user, movesServices: movesServices)
        let list = PostgresParameter.text(SQLText.arrayLiteral(names.map(\.sql)))
        checks.tables = try await side.connection.query(
            """
            SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), pg_catalog.pg_has_role(c.relowner, 'USAGE')::text
            FROM unnest($1::text[]) AS wanted(name) JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(wanted.name)
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2
            """, [list]
        ).rows.map { Table(name: QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? ""), owner: $0[2] ?? "", actsAsOwner: $0[3] == "true") }
        let writers = try await ServiceSessions.writers(of: names, on: side.connection).map(\.name)
        // Since 16 one may have the rights of a role and still not be allowed to act as it.
        let become = side.facts.version >= 160_000 ? "SET" : "MEMBER"
        checks.roles = try await side.connection.query(
            """
            SELECT r.rolname, r.rolsuper::text, pg_catalog.pg_has_role(r.oid, '\(become)')::text,
                   (pg_catalog.pg_has_role(r.oid, 'USAGE') OR NOT r.rolsuper AND pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))::text
            FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::text[]) ORDER BY 1
            """, [.text(SQLText.arrayLiteral(Array(Set(writers + services)).sorted()))]
        ).rows.map {
            Role(
                name: $0[0] ?? "", isSuperuser: $0[1] == "true", mayBecome: $0[2] == "true", mayEnd: $0[3] == "true",
                isService: services.contains($0[0] ?? ""))
        }
        checks.seesSessions = try await side.connection.query(
            "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')::text").firstValue == "true"
        return checks
    }
}
