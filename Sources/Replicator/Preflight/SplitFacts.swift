import PostgresClient
import ReplicationCore

/// What a split needs to know about one table of one side, beyond its description.
struct SplitTableFacts: Sendable {
    struct ForeignKey: Sendable {
        enum Action: String, Sendable {
            case none = "a"
            case restrict = "r"
            case cascade = "c"
            case setNull = "n"
            case setDefault = "d"
        }

        var name: String
        var columns: [String]
        var referenced: QualifiedName
        var referencedColumns: [String]
        /// When the referenced row is deleted.
        var onDelete: Action
    }

    /// Rows that must differ: a unique index, or an exclusion constraint.
    struct UniqueIndex: Sendable {
        var name: String
        /// Those of its expressions and its condition, too.
        var columns: [String]
        /// Whether it stands and falls with a constraint of its name.
        var isConstraint = false

        /// The SQL that takes it away.
        func removal(from table: QualifiedName) -> String {
            isConstraint
                ? "ALTER TABLE \(table.sql) DROP CONSTRAINT \(SQLText.identifier(name));"
                : "DROP INDEX \(SQLText.identifier(table.schema)).\(SQLText.identifier(name));"
        }
    }

    struct Trigger: Sendable {
        var name: String
        var function: String
        var language: String
        var body: String
        var arguments: [String]
        /// Whether it fires for what arrives from the other side, too (`ENABLE ALWAYS` or `REPLICA`).
        var firesForReplicas = false
    }

    /// A CHECK constraint.
    struct Check: Sendable {
        var name: String
        var columns: [String]
    }

    /// A partition that holds rows. It has a replica identity of its own.
    struct Leaf: Sendable {
        var name: QualifiedName
        /// What a deleted row tells, unless that is all of it.
        var identityColumns: [String]
        var isFull: Bool
    }

    /// What the worker's own role may do.
    struct Rights: Sendable {
        var maySelect = false
        var mayDelete = false
        var insertable: Set<String> = []
        var updatable: Set<String> = []
    }

    var rights = Rights()
    var foreignKeys: [ForeignKey] = []
    var uniqueIndexes: [UniqueIndex] = []
    var triggers: [Trigger] = []
    var checks: [Check] = []
    var leaves: [Leaf] = []
    /// Columns whose collation calls texts equal that differ in bytes.
    var looseColumns: Set<String> = []
    /// Of the side's own roles, those that may truncate the table.
    var truncatingRoles: [String] = []
}

/// Reads `SplitTableFacts`. Only reads, and only what any role may read.
enum SplitFactsReader {
    static func read(
        _ connection: PostgresConnection, _ tables: [TableDescription], roles: [String]
    ) async throws(PostgresError) -> [QualifiedName: SplitTableFacts] {
        if tables.isEmpty { return [:] }
        let names = Dictionary(tables.map { ($0.oid, $0.name) }, uniquingKeysWith: { first, _ in first })
        let oids = PostgresParameter.text("{" + tables.map { String($0.oid) }.joined(separator: ",") + "}")
        var facts: [QualifiedName: SplitTableFacts] = [:]
        func table(_ row: PostgresRow) -> QualifiedName? { row["table"].flatMap { UInt32($0) }.flatMap { names[$0] } }
        for row in try await connection.query(foreignKeys, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].foreignKeys.append(
                SplitTableFacts.ForeignKey(
                    name: row["name"] ?? "", columns: lines(row["columns"]),
                    referenced: QualifiedName(schema: row["schema"] ?? "", name: row["referenced"] ?? ""),
                    referencedColumns: lines(row["referenced_columns"]),
                    onDelete: SplitTableFacts.ForeignKey.Action(rawValue: row["on_delete"] ?? "") ?? .none))
        }
        for row in try await connection.query(uniqueIndexes, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].uniqueIndexes.append(
                SplitTableFacts.UniqueIndex(
                    name: row["name"] ?? "", columns: lines(row["columns"]), isConstraint: row["is_constraint"] == "t"))
        }
        for row in try await connection.query(triggers, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].triggers.append(
                SplitTableFacts.Trigger(
                    name: row["name"] ?? "", function: row["function"] ?? "", language: row["language"] ?? "",
                    body: row["body"] ?? "", arguments: lines(row["arguments"]), firesForReplicas: row["fires_for_replicas"] == "t"))
        }
        for row in try await connection.query(SplitFactsSQL.checks, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].checks.append(
                SplitTableFacts.Check(name: row["name"] ?? "", columns: lines(row["columns"])))
        }
        for row in try await connection.query(SplitFactsSQL.leaves, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].leaves.append(
                SplitTableFacts.Leaf(
                    name: QualifiedName(schema: row["schema"] ?? "", name: row["name"] ?? ""),
                    identityColumns: lines(row["columns"]), isFull: row["is_full"] == "t"))
        }
        for row in try await connection.query(rights, [oids]).rows {
            guard let name = table(row) else { continue }
            facts[name, default: SplitTableFacts()].rights = SplitTableFacts.Rights(
                maySelect: row["may_select"] == "t", mayDelete: row["may_delete"] == "t",
                insertable: Set(lines(row["insertable"])), updatable: Set(lines(row["updatable"])))
        }
        for row in try await connection.query(looseColumns, [oids]).rows {
            guard let name = table(row), let column = row["name"] else { continue }
            facts[name, default: SplitTableFacts()].looseColumns.insert(column)
        }
        if roles.isEmpty { return facts }
        for row in try await connection.query(truncatingRoles, [oids, .text(SQLText.arrayLiteral(roles))]).rows {
            guard let name = table(row), let role = row["name"] else { continue }
            facts[name, default: SplitTableFacts()].truncatingRoles.append(role)
        }
        return facts
    }

    private static func lines(_ text: String?) -> [String] { text.map { $0.split(separator: "\n").map(String.init) } ?? [] }

    /// `$1`: oids of tables.
    private static let foreignKeys = """
        SELECT k.conrelid AS table, k.conname AS name, n.nspname AS schema, r.relname AS referenced,
               k.confdeltype AS on_delete,
               (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY c.position)
                FROM unnest(k.conkey) WITH ORDINALITY AS c(number, position)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.number) AS columns,
               (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY c.position)
                FROM unnest(k.confkey) WITH ORDINALITY AS c(number, position)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.number)
                   AS referenced_columns
        FROM pg_catalog.pg_constraint k
             JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
        WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = ANY ($1::pg_catalog.oid[])
        ORDER BY k.conrelid, k.conname
        """

    /// `$1`: oids of tables.
    private static let rights = """
        SELECT a.attrelid AS table, pg_catalog.has_table_privilege(a.attrelid, 'SELECT') AS may_select,
               pg_catalog.has_table_privilege(a.attrelid, 'DELETE') AS may_delete,
               pg_catalog.string_agg(a.attname, E'\\n')
                   FILTER (WHERE pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT')) AS insertable,
               pg_catalog.string_agg(a.attname, E'\\n')
                   FILTER (WHERE pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')) AS updatable
        FROM pg_catalog.pg_attribute a
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY ($1::pg_catalog.oid[])
        GROUP BY a.attrelid
        """

    /// `$1`: oids of tables, `$2`: names of roles. Superusers may do everything, and are named elsewhere.
    private static let truncatingRoles = """
        SELECT c.oid AS table, r.rolname AS name
        FROM pg_catalog.pg_class c, pg_catalog.pg_roles r
        WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND r.rolname = ANY ($2::pg_catalog.text[]) AND NOT r.rolsuper
          AND pg_catalog.has_table_privilege(r.oid, c.oid, 'TRUNCATE')
        ORDER BY c.oid, r.rolname
        """

    /// `$1`: oids of tables.
    private static let looseColumns = """
        SELECT a.attrelid AS table, a.attname AS name
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
        WHERE NOT c.collisdeterministic AND a.attnum > 0 AND a.attrelid = ANY ($1::pg_catalog.oid[])
        """

    /// `$1`: oids of tables. Columns inside expressions and conditions are known as dependencies alone.
    private static let uniqueIndexes = """
        SELECT i.indrelid AS table, c.relname AS name,
               (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = i.indrelid AND (
                    a.attnum IN (SELECT k.number FROM unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(number, position)
                                 WHERE k.position <= i.indnkeyatts)
                    OR (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND a.attnum IN (
                        SELECT d.refobjsubid FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
                          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = i.indrelid
                          AND d.refobjsubid > 0))) AS columns,
               EXISTS (SELECT FROM pg_catalog.pg_constraint k
                       WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) AS is_constraint
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE (i.indisunique OR i.indisexclusion) AND i.indrelid = ANY ($1::pg_catalog.oid[])
        ORDER BY i.indrelid, c.relname
        """

    /// `$1`: oids of tables. Lindero's own triggers write no column.
    private static let triggers = """
        SELECT t.tgrelid AS table, t.tgname AS name, p.proname AS function, l.lanname AS language, p.prosrc AS body,
               t.tgenabled IN ('A', 'R') AS fires_for_replicas,
               pg_catalog.replace(pg_catalog.encode(t.tgargs, 'escape'), E'\\\\000', E'\\n') AS arguments
        FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
             JOIN pg_catalog.pg_language l ON l.oid = p.prolang
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname <> 'lindero'
          AND t.tgrelid = ANY ($1::pg_catalog.oid[])
        ORDER BY t.tgrelid, t.tgname
        """
}
