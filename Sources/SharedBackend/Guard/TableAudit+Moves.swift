import ReplicationCore

/// Rows that an UPDATE moves to another partition. PostgreSQL deletes and inserts them, and runs those triggers, in
/// this order and row by row; triggers of the statement tell that it is an UPDATE, and a setting of the transaction
/// holds the row between the two.
extension TableAudit {
    /// Whether an UPDATE of the table can move rows. One of a partition by its own name cannot, or only below it:
    /// such a move is recorded as it happens, a DELETE and an INSERT.
    var movesRows: Bool { table.kind == .partitioned }

    /// Other statements clear the setting: nobody can set it to hide what they delete.
    var moveTriggers: [AuditTrigger] {
        [trigger("BEFORE", "INSERT OR UPDATE OR DELETE", "STATEMENT", "", []), trigger("AFTER", "UPDATE", "STATEMENT", "", [])]
    }

    private var mark: String { SQLText.literal(table.name.sql) }
    private var isMoving: String { "current_setting('lindero.moving', true) = \(mark)" }

    private func sides(_ may: (ColumnRights) -> Bool) -> String {
        SQLText.literal(SQLText.arrayLiteral(parties.filter { may($0.rights) }.map(\.side)))
    }

    var moveDeclaration: String { "\n    moved jsonb;" }

    /// Before and after the statement.
    var moveMark: String {
        """

            IF TG_LEVEL = 'STATEMENT' AND TG_OP <> 'TRUNCATE' THEN
                PERFORM set_config('lindero.moved', '', true), set_config('lindero.moving',
                    CASE WHEN TG_WHEN = 'BEFORE' AND TG_OP = 'UPDATE' THEN \(mark) ELSE '' END, true);
                RETURN NULL;
            END IF;
        """
    }

    /// At the start of DELETE.
    var moveStart: String {
        """

                IF \(isMoving) THEN
                    PERFORM set_config('lindero.moved', to_jsonb(OLD)::text, true);
                    RETURN NULL;
                ELSIF TG_ARGV[0] = ANY (\(sides(\.mayDelete))::text[]) THEN
                    RETURN NULL;
                END IF;
        """
    }

    /// At the end of INSERT.
    var moveEnd: String {
        let moved = branches { party in
            Self.names(
                foreignColumns(party).map { column in
                    let name = SQLText.literal(column)
                    return (name: column, condition: "to_jsonb(NEW)->\(name) IS DISTINCT FROM moved->\(name)")
                })
        }
        let pairs = ownership.match.map { "\(SQLText.literal($0)), moved->\(SQLText.literal($0))" }
        return """

                IF \(isMoving) AND current_setting('lindero.moved', true) <> '' THEN
                    moved := current_setting('lindero.moved')::jsonb;
                    PERFORM set_config('lindero.moved', '', true);
                    operation := 'UPDATE';
                    row_key := \(pairs.isEmpty ? "NULL" : "jsonb_build_object(\(pairs.joined(separator: ", ")))");
            \(moved)
                    IF changed = '{}' THEN RETURN NULL; END IF;
                ELSIF changed = '{}' AND TG_ARGV[0] = ANY (\(sides(\.mayInsert))::text[]) THEN
                    RETURN NULL;
                END IF;
        """
    }
}
