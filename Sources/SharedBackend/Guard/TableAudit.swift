import ReplicationCore

/// What audit mode installs for one table.
struct TableAudit: Sendable, Equatable {
    /// A side as the audit sees it: what it may do, and its roles in lindero.yaml.
    struct Party: Sendable, Equatable {
        var side: String
        var roles: [String]
        var rights: ColumnRights
    }

    /// The side of the roles that belong to none, and own nothing.
    static let unlisted = "(unlisted)"

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
    /// the function's owner. A trigger without one is for roles that lindero.yaml does not name.
    var functionSource: String {
        """

        DECLARE
            operation text := TG_OP;
            row_key jsonb;
            changed text[] := '{}';\(movesRows ? moveDeclaration : "")
        BEGIN\(movesRows ? moveMark : "")
            IF TG_OP = 'UPDATE' THEN
                row_key := \(key("OLD"));
        \(branches { changedColumns($0) })
            ELSIF TG_OP = 'INSERT' THEN
                row_key := \(key("NEW"));
        \(branches { filledColumns($0) })\(movesRows ? moveEnd : "")
            ELSIF TG_OP = 'DELETE' THEN\(movesRows ? moveStart : "")
                row_key := \(key("OLD"));
            END IF;
            INSERT INTO lindero.audit
                (schema_name, table_name, operation, side, role_name, session_name, row_key, column_names)
            VALUES (\(SQLText.literal(table.name.schema)), \(SQLText.literal(table.name.name)), operation, TG_ARGV[0],
                coalesce(TG_ARGV[1], nullif(current_setting('role'), 'none'), session_user),
                session_user, row_key, changed);
            RETURN NULL;
        END

        """
    }

    func branches(_ columns: (Party) -> String) -> String {
        let cases = parties.map { "            WHEN \(SQLText.literal($0.side)) THEN changed := \(columns($0));" }
        return (["        CASE TG_ARGV[0]"] + cases + ["        END CASE;"]).joined(separator: "\n")
    }

    /// One trigger for each role and operation that can violate ownership, and one for roles that are not listed:
    /// members of a side's roles, whoever has rights without being of any side, and those that are yet to come.
    var triggers: [AuditTrigger] {
        var triggers: [AuditTrigger] = []
        for party in parties {
            for role in party.roles.sorted() {
                triggers += self.triggers(party, "current_user = \(SQLText.literal(role))", [party.side, role])
            }
            triggers += self.triggers(party, isOther(party), [party.side])
        }
        if movesRows { triggers += moveTriggers }
        return triggers
    }

    /// The roles that are listed turn away first, which costs next to nothing.
    private func isOther(_ party: Party) -> String {
        let listed = parties.flatMap { party in party.roles.sorted().map { (side: party.side, role: $0) } }
        func array(_ values: [String]) -> String { SQLText.literal(SQLText.arrayLiteral(values)) }
        return """
            current_user <> ALL (\(array(listed.map(\.role)))::pg_catalog.name[]) AND lindero.audited_side(\
            \(array(listed.map(\.side))), \(array(listed.map(\.role))), \(SQLText.literal(table.name.sql))) = \
            \(SQLText.literal(party.side))
            """
    }

    private func triggers(_ party: Party, _ isRole: String, _ arguments: [String]) -> [AuditTrigger] {
        var triggers: [AuditTrigger] = []
        func add(_ event: String, _ scope: String = "ROW", when conditions: String?...) {
            let condition = (conditions.compactMap { $0 } + [isRole]).joined(separator: " AND ")
            triggers.append(trigger("AFTER", event, scope, "WHEN (\(condition))", arguments))
        }
        let foreign = foreignColumns(party)
        if !foreign.isEmpty { add("UPDATE OF \(SQLText.list(foreign))", when: Self.differs(foreign)) }
        let filled = fillableColumns(party).map { "(\($0.condition))" }.joined(separator: " OR ")
        // A row that moves to another partition is deleted and inserted: the function must see both.
        let mustSeeMoves = movesRows && !(foreign.isEmpty && party.rights.mayInsert && party.rights.mayDelete)
        if !party.rights.mayInsert || mustSeeMoves {
            add("INSERT")
        } else if !filled.isEmpty {
            add("INSERT", when: "(\(filled))")
        }
        if !party.rights.mayDelete || mustSeeMoves { add("DELETE") }
        if !party.rights.mayDelete { add("TRUNCATE", "STATEMENT") }
        return triggers
    }

    func trigger(
        _ moment: String, _ event: String, _ scope: String, _ condition: String, _ arguments: [String]
    ) -> AuditTrigger {
        let tail = """
            \(moment) \(event) ON \(table.name.sql)
                FOR EACH \(scope) \(condition)
                EXECUTE FUNCTION \(functionSQL)(\(arguments.map(SQLText.literal).joined(separator: ", ")));
            """
        let name = AuditTrigger.prefix + AuditTrigger.fingerprint(tail)
        return AuditTrigger(table: table.name, name: name, sql: "CREATE TRIGGER \(SQLText.identifier(name)) \(tail)")
    }

    /// Columns that the side may not update, in the table's order.
    func foreignColumns(_ party: Party) -> [String] {
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

    static func names(_ columns: [(name: String, condition: String)]) -> String {
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
