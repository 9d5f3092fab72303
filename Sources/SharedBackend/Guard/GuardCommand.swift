import PostgresClient
import ReplicationCore
import Replicator

/// `lindero guard`: puts column ownership into the database, and takes it out again.
///
/// The connection needs the rights of the tables' owner, and for audit mode those of the owner of schema `lindero`.
public enum GuardCommand {
    /// Why the guard could not be changed. Nothing was.
    public enum Failure: Error, Sendable, Equatable, CustomStringConvertible {
        /// The schema `lindero` lacks the guard's tables.
        case notMigrated
        case blocked([GuardProblem])

        public var description: String {
            switch self {
            case .notMigrated: "The schema lindero is missing or old in this database."
            case .blocked(let problems): problems.map(\.description).joined(separator: "\n")
            }
        }
    }

    /// Whether and how a database is guarded.
    public struct State: Sendable, Equatable {
        public var mode: GuardMode
        public var tables: [QualifiedName]
    }

    /// Key of the advisory lock under which the guard changes.
    static let lockKey = 7_310_868_735_421_415_281
    /// How long a trigger waits for a table's writers before it lets them pass and tries again.
    static let lockTimeoutMilliseconds = 3_000
    static let attempts = 8

    /// What `apply` would do. Changes nothing, and needs no migrated schema.
    public static func plan(
        connection: PostgresConnection, policy: OwnershipPolicy, configuration: LinderoConfiguration, mode: GuardMode
    ) async throws -> GuardPlan {
        try await Session(connection, policy: policy, sides: GuardSide.all(configuration), mode: mode).plan()
    }

    /// Brings the database to the mode, in one transaction. Idempotent; two at once wait for each other.
    ///
    /// - Returns: what was done.
    /// - Throws: `Failure`; `PostgresError`.
    @discardableResult
    public static func apply(
        connection: PostgresConnection, policy: OwnershipPolicy, configuration: LinderoConfiguration, mode: GuardMode
    ) async throws -> GuardPlan {
        try await Session(connection, policy: policy, sides: GuardSide.all(configuration), mode: mode).apply()
    }

    /// What `remove` would do.
    public static func planRemoval(connection: PostgresConnection) async throws -> GuardPlan {
        try await Session(connection, policy: OwnershipPolicy(tables: [:]), sides: [], mode: nil).plan()
    }

    /// Restores every grant to what it was before the guard, besides what others changed since, which the plan's
    /// notices name, and drops the audit's triggers and functions. What the audit recorded stays.
    @discardableResult
    public static func remove(connection: PostgresConnection) async throws -> GuardPlan {
        try await Session(connection, policy: OwnershipPolicy(tables: [:]), sides: [], mode: nil).apply()
    }

    /// What it would take to bring the database back to the mode that it is guarded in: an empty plan when nothing
    /// changed since, neither there nor in the configuration. Changes nothing.
    ///
    /// - Returns: `nil` when no table is guarded, or this role may not know.
    public static func review(
        connection: PostgresConnection, policy: OwnershipPolicy, configuration: LinderoConfiguration
    ) async throws -> GuardPlan? {
        guard let state = try await state(connection: connection) else { return nil }
        return try await plan(connection: connection, policy: policy, configuration: configuration, mode: state.mode)
    }

    /// Whether this role may not know about the guard.
    public static func isHidden(connection: PostgresConnection) async throws(PostgresError) -> Bool {
        try await GuardReader(connection: connection).record() == .unreadable
    }

    /// - Returns: `nil` when no table is guarded, or this role may not know.
    public static func state(connection: PostgresConnection) async throws(PostgresError) -> State? {
        switch try await GuardReader(connection: connection).record() {
        case .missing, .unreadable: return nil
        case .old, .current: break
        }
        let rows = try await connection.query(
            "SELECT schema_name, table_name, mode FROM lindero.guarded_table ORDER BY 1, 2"
        ).rows
        guard let mode = rows.first?[2].flatMap(GuardMode.init) else { return nil }
        return State(mode: mode, tables: rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") })
    }
}

extension GuardCommand {
    /// One run of the command.
    private struct Session {
        let connection: PostgresConnection
        let policy: OwnershipPolicy
        let sides: [GuardSide]
        let mode: GuardMode?
        let reader: GuardReader

        init(_ connection: PostgresConnection, policy: OwnershipPolicy, sides: [GuardSide], mode: GuardMode?) {
            self.connection = connection
            self.policy = policy
            self.sides = sides
            self.mode = mode
            reader = GuardReader(connection: connection)
        }

        func plan() async throws -> GuardPlan {
            // What an older version recorded must not be taken for nothing.
            if try await reader.record() == .old { throw Failure.notMigrated }
            let names = policy.tables.keys.sorted()
            return GuardPlanner.plan(
                mode: mode, policy: policy,
                descriptions: try await CatalogReader.tables(connection, matching: names), sides: sides,
                snapshot: try await reader.snapshot(of: names, sides: sides))
        }

        func apply() async throws -> GuardPlan {
            switch try await reader.record() {
            case .missing, .old: throw Failure.notMigrated
            case .unreadable, .current: break
            }
            for attempt in 1... {
                do {
                    return try await applyOnce()
                } catch let error as PostgresError where attempt < GuardCommand.attempts && Self.isPassing(error) {
                    try await Task.sleep(for: .milliseconds(Int.random(in: 50...(200 * attempt))))
                }
            }
            throw Failure.notMigrated
        }

        /// GRANT takes no lock that makes two of them wait: the second fails with "tuple concurrently updated".
        private static func isPassing(_ error: PostgresError) -> Bool {
            if case .server(let server) = error, server.sqlState.rawValue == "XX000" { return true }
            if case .closed = error { return false }
            return error.isTransient
        }

        private func applyOnce() async throws -> GuardPlan {
            try await connection.inTransaction(
                """
                SELECT pg_catalog.pg_advisory_xact_lock(\(GuardCommand.lockKey));
                SET LOCAL lock_timeout = \(GuardCommand.lockTimeoutMilliseconds);
                """
            ) {
                let plan = try await plan()
                guard plan.problems.isEmpty else { throw Failure.blocked(plan.problems) }
                if !plan.isEmpty { _ = try await connection.execute(plan.statements.joined(separator: "\n")) }
                try await record(plan)
                return plan
            }
        }

        private func record(_ plan: GuardPlan) async throws {
            _ = try await connection.execute("DELETE FROM lindero.guarded_table")
            guard let mode else { return }
            let names = plan.originals.keys.sorted()
            let after = try await reader.access(names)
            for name in names {
                guard let original = plan.originals[name], let access = after[name] else { continue }
                _ = try await connection.query(
                    """
                    INSERT INTO lindero.guarded_table (schema_name, table_name, table_oid, owner_name, mode, database_id)
                    VALUES ($1, $2, pg_catalog.to_regclass(pg_catalog.format('%I.%I', $1::text, $2::text)), $3, $4,
                            \(GuardRecordReader.databaseID))
                    """,
                    [.text(name.schema), .text(name.name), .text(access.owner), .text(mode.rawValue)])
                try await record(original.grants, of: name, moment: "before")
                try await record(access.grants, of: name, moment: "after")
            }
        }

        private func record(_ grants: Set<AccessGrant>, of name: QualifiedName, moment: String) async throws {
            // NULL in an array of names: the table itself, and PUBLIC.
            func array(_ values: [String?]) -> PostgresParameter {
                .text("{" + values.map { $0.map { String(SQLText.arrayLiteral([$0]).dropFirst().dropLast()) } ?? "NULL" }
                    .joined(separator: ",") + "}")
            }
            let grants = Array(grants)
            let grantees = grants.map { grant -> String? in
                if case .role(let role) = grant.grantee { role } else { nil }
            }
            _ = try await connection.query(
                """
                INSERT INTO lindero.guarded_grant
                    (schema_name, table_name, moment, column_name, privilege, grantee, grantor, is_grantable, column_number, grantee_oid, grantor_oid)
                SELECT $1, $2, $3, g.*, a.attnum, holder.oid, giver.oid
                FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[]) AS g(column_name, privilege, grantee, grantor, is_grantable)
                     LEFT JOIN pg_catalog.pg_attribute a ON a.attname = g.column_name AND a.attnum > 0
                          AND a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', $1::text, $2::text))
                     LEFT JOIN pg_catalog.pg_roles holder ON holder.rolname = g.grantee
                     LEFT JOIN pg_catalog.pg_roles giver ON giver.rolname = g.grantor
                """,
                [
                    .text(name.schema), .text(name.name), .text(moment), array(grants.map(\.column)),
                    array(grants.map(\.privilege)), array(grantees), array(grants.map(\.grantor)),
                    array(grants.map { $0.isGrantable ? "t" : "f" }),
                ])
        }
    }
}
