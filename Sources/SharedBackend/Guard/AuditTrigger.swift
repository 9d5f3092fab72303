import ReplicationCore

/// The triggers and the function that record one table's ownership violations in `lindero.audit`.
///
/// A trigger runs its function for violations alone: `UPDATE OF` and `WHEN` turn every other write away before
/// PostgreSQL even queues it. The triggers are ordinary ones, so writes that a replication applies don't fire them.
struct AuditTrigger: Sendable, Equatable {
    /// A trigger by its name alone, which holds a fingerprint of its definition.
    struct Installed: Sendable, Hashable {
        var table: QualifiedName
        var name: String
    }

    static let prefix = "lindero_audit_"

    var table: QualifiedName
    var name: String
    /// The `CREATE TRIGGER` statement.
    var sql: String

    var installed: Installed { Installed(table: table, name: name) }

    /// FNV-1a, 64 bits: names must be equal for equal definitions, in every process.
    static func fingerprint(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// What audit mode installs for one table.
struct TableAudit: Sendable, Equatable {
    /// A side as the audit sees it: what it may do, and the roles that write for it.
    struct Party: Sendable, Equatable {
        var side: String
        var roles: [String]
        var rights: ColumnRights
    }

    let table: TableDescription
    let ownership: TableOwnership
    let parties: [Party]

    var functionName: String { Self.functionName(of: table.name) }

    /// Name of a table's function in schema `lindero`: recognizable, and unique within PostgreSQL's 63 bytes.
    static func functionName(of table: QualifiedName) -> String {
        let readable = table.name.unicodeScalars.filter { $0.isASCII }.prefix(38)
        return "audit_\(String(String.UnicodeScalarView(readable)))_\(AuditTrigger.fingerprint(table.sql))"
    }

    private var functionSQL: String { "lindero.\(SQLText.identifier(functionName))" }

    /// The `CREATE FUNCTION` statement. It runs with its owner's rights, so that services need none on `lindero`.
    var functionStatement: String {
        """
        CREATE OR REPLACE FUNCTION \(functionSQL)() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS \(SQLText.literal(functionSource));
        """
    }

    /// Trigger arguments: side, role. The role is fixed per trigger since inside the function `current_user` is
    /// the function's owner.
    var functionSource: String {
        """

        DECLARE
            row_key jsonb;
            changed text[] := '{}';
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                row_key := \(key("OLD"));
        \(branches { changedColumns($0) })
            ELSIF TG_OP = 'INSERT' THEN
                row_key := \(key("NEW"));
        \(branches { filledColumns($0) })
            ELSIF TG_OP = 'DELETE' THEN
                row_key := \(key("OLD"));
            END IF;
            INSERT INTO lindero.audit
                (schema_name, table_name, operation, side, role_name, session_name, row_key, column_names)
            VALUES (\(SQLText.literal(table.name.schema)), \(SQLText.literal(table.name.name)), TG_OP, TG_ARGV[0],
                TG_ARGV[1], session_user, row_key, changed);
            RETURN NULL;
        END

        """
    }

    private func branches(_ columns: (Party) -> String) -> String {
        let cases = parties.map { "            WHEN \(SQLText.literal($0.side)) THEN changed := \(columns($0));" }
        return (["        CASE TG_ARGV[0]"] + cases + ["        END CASE;"]).joined(separator: "\n")
    }

    /// One trigger for each role and operation that can violate ownership.
    var triggers: [AuditTrigger] {
        parties.flatMap { party in party.roles.sorted().flatMap { triggers(party, role: $0) } }
    }

    private func triggers(_ party: Party, role: String) -> [AuditTrigger] {
        let isRole = "current_user = \(SQLText.literal(role))"
        var triggers: [AuditTrigger] = []
        func add(_ event: String, _ scope: String, when condition: String) {
            let tail = """
                AFTER \(event) ON \(table.name.sql)
                    FOR EACH \(scope) WHEN (\(condition))
                    EXECUTE FUNCTION \(functionSQL)(\(SQLText.literal(party.side)), \(SQLText.literal(role)));
                """
            let name = AuditTrigger.prefix + AuditTrigger.fingerprint(tail)
            triggers.append(
                AuditTrigger(
                    table: table.name, name: name, sql: "CREATE TRIGGER \(SQLText.identifier(name)) \(tail)"))
        }
        let foreign = foreignColumns(party)
        if !foreign.isEmpty {
            add(
                "UPDATE OF \(SQLText.list(foreign))", "ROW",
                when: "\(isRole) AND \(Self.differs(foreign))")
        }
        if !party.rights.mayInsert {
            add("INSERT", "ROW", when: isRole)
        } else {
            let filled = fillableColumns(party).map { "(\($0.condition))" }
            if !filled.isEmpty { add("INSERT", "ROW", when: "\(isRole) AND (\(filled.joined(separator: " OR ")))") }
        }
        if !party.rights.mayDelete {
            add("DELETE", "ROW", when: isRole)
            add("TRUNCATE", "STATEMENT", when: isRole)
        }
        return triggers
    }

    /// Columns that the side may not update, in the table's order.
    private func foreignColumns(_ party: Party) -> [String] {
        table.columns.map(\.name).filter { ownership.columns[$0] != nil && !party.rights.updatable.contains($0) }
    }

    /// Compares the stored form, so it works for types without an equality operator, and takes NULL for a value.
    private static func differs(_ columns: [String]) -> String {
        let old = columns.map { "OLD.\(SQLText.identifier($0))" }.joined(separator: ", ")
        let new = columns.map { "NEW.\(SQLText.identifier($0))" }.joined(separator: ", ")
        return "pg_catalog.record_image_ne(ROW(\(old)), ROW(\(new)))"
    }

    private func changedColumns(_ party: Party) -> String {
        Self.names(foreignColumns(party).map { (name: $0, condition: Self.differs([$0])) })
    }

    private func filledColumns(_ party: Party) -> String {
        party.rights.mayInsert ? Self.names(fillableColumns(party)) : "'{}'"
    }

    private static func names(_ columns: [(name: String, condition: String)]) -> String {
        if columns.isEmpty { return "'{}'" }
        let cases = columns.map { "CASE WHEN \($0.condition) THEN \(SQLText.literal($0.name)) END" }
        return "array_remove(ARRAY[\(cases.joined(separator: ", "))]::text[], NULL)"
    }

    /// Foreign columns of which a new row tells that the statement filled them: a trigger does not see the
    /// statement's column list, so a value equal to the default is taken for the default.
    private func fillableColumns(_ party: Party) -> [(name: String, condition: String)] {
        table.columns.compactMap { column in
            guard ownership.columns[column.name] != nil, !party.rights.insertable.contains(column.name),
                column.identity == .none
            else { return nil }
            let value = "NEW.\(SQLText.identifier(column.name))"
            guard let expression = column.defaultExpression else { return (column.name, "\(value) IS NOT NULL") }
            guard Self.isRepeatable(expression) else { return nil }
            return (
                column.name,
                "pg_catalog.record_image_ne(ROW(\(value)), ROW((\(expression))::\(column.type)))"
            )
        }
    }

    /// Whether evaluating a default again in the same statement gives the same value and does nothing else:
    /// literals, and the transaction's time. Others (sequences, random keys) call functions.
    static func isRepeatable(_ expression: String) -> Bool {
        var outside = ""
        var isQuoted = false
        for character in expression {
            if character == "'" { isQuoted.toggle() } else if !isQuoted { outside.append(character) }
        }
        // What follows `::` are types.
        let value = outside.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)[0]
        let constants = [
            "", "true", "false", "NULL", "now()", "CURRENT_TIMESTAMP", "CURRENT_DATE", "LOCALTIMESTAMP", "ARRAY[]",
        ]
        return constants.contains(String(value)) || Double(value.filter { $0 != "(" && $0 != ")" }) != nil
    }

    private func key(_ row: String) -> String {
        let pairs = ownership.match.map { "\(SQLText.literal($0)), \(row).\(SQLText.identifier($0))" }
        return pairs.isEmpty ? "NULL" : "jsonb_build_object(\(pairs.joined(separator: ", ")))"
    }
}
