import ReplicationCore

/// Judges the tables of a stream's target against those of its source.
struct TargetTableChecks {
    let source: String
    let target: String
    let user: String
    /// Its name on its server.
    let database: String
    let mayCreateInDatabase: Bool
    let configuration: LinderoConfiguration
    let policy: OwnershipPolicy
    let sourceTables: [TableDescription]
    let targetTables: [QualifiedName: TableDescription]
    let facts: [UInt32: TableFacts]
    /// Quoted names of tables that get their keys when their data is there.
    let unfinished: Set<String>

    func findings() -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        var missing: [QualifiedName] = []
        for table in sourceTables {
            guard let ownership = policy.tables[table.name] else { continue }
            guard let twin = targetTables[table.name] else {
                missing.append(table.name)
                continue
            }
            findings += columns(of: table, in: twin, ownership) + key(of: table, in: twin)
            findings += untouched(in: twin, ownership, source: table)
            if let facts = facts[twin.oid] { findings += session(twin, facts) }
        }
        return missingTables(missing) + findings
    }

    /// Lindero creates what is absent before it copies; with `snapshot: never` nothing is created.
    private func missingTables(_ missing: [QualifiedName]) -> [PreflightFinding] {
        guard let first = missing.first else { return [] }
        if configuration.replication.snapshot == .never {
            return missing.map { name in
                finding(
                    .tableMissing, object: name.description, "table \(name) does not exist",
                    fix: "pg_dump --schema-only --table='\(name.sql)' of \(source), into \(target)")
            }
        }
        var findings = [
            PreflightFinding(
                .note, .tableMissing, database: target, object: first.description,
                missing.count == 1
                    ? "table \(first) does not exist and will be created"
                    : "\(missing.count) tables, \(first) first, do not exist and will be created")
        ]
        if !mayCreateInDatabase {
            findings.append(
                finding(
                    .targetPrivilege, object: user, "role \(user) may not create schemas in this database",
                    fix:
                        "GRANT CREATE ON DATABASE \(SQLText.identifier(database)) TO \(SQLText.identifier(user));"
                ))
        }
        return findings
    }

    private func travels(_ column: String, _ ownership: TableOwnership) -> Bool {
        ownership.travels(column, from: source, to: target, backend: configuration.backend)
    }

    /// Whether it may be there under a former name: added, it would be empty.
    private func renaming(
        _ column: ColumnDescription, of table: TableDescription, in twin: TableDescription, _ ownership: TableOwnership
    ) -> String {
        guard let former = table.formerColumns(of: column, in: twin).first(where: { ownership.columns[$0.name] == nil }) else { return "" }
        return " or, if that is \"\(former.name)\" under a new name: ALTER TABLE \(table.name.sql) RENAME COLUMN "
            + "\(SQLText.identifier(former.name)) TO \(SQLText.identifier(column.name));"
    }

    private func columns(
        of table: TableDescription, in twin: TableDescription, _ ownership: TableOwnership
    ) -> [PreflightFinding] {
        table.columns.compactMap { column in
            guard !column.isGenerated, travels(column.name, ownership) else { return nil }
            let place = "\(table.name).\(column.name)"
            let sqlName = SQLText.identifier(column.name)
            guard let other = twin.column(column.name) else {
                return finding(
                    .columnMissing, object: place,
                    "column \"\(column.name)\" is missing in table \(table.name)",
                    fix: "ALTER TABLE \(table.name.sql) ADD COLUMN \(sqlName) \(column.type);" + renaming(column, of: table, in: twin, ownership))
            }
            if other.isGenerated {
                return finding(
                    .targetGenerated, object: place,
                    "column \"\(column.name)\" of \(table.name) is generated here and ordinary in \(source)",
                    fix: "ALTER TABLE \(table.name.sql) ALTER COLUMN \(sqlName) DROP EXPRESSION;")
            }
            let key = configuration.backend == .split ? ownership.match : table.rowKey(on: twin)
            if !unfinished.contains(table.name.sql), twin.refusesUpdates(of: column.name, key: key) {
                return finding(
                    .identityAlways, object: place,
                    "column \"\(column.name)\" of \(table.name) is GENERATED ALWAYS AS IDENTITY here, and PostgreSQL refuses every "
                        + "update that names it",
                    fix: "ALTER TABLE \(table.name.sql) ALTER COLUMN \(sqlName) SET GENERATED BY DEFAULT;")
            }
            if let difference = TypeDifference.between(column, other) {
                return finding(
                    .typeMismatch, object: place,
                    "type \(difference.type) of column \"\(column.name)\" of \(table.name) is \(difference.target) here and "
                        + "\(difference.source) in \(source)",
                    fix: difference.mend(column.name, of: table.name))
            }
            guard !fits(column, other) else { return narrowing(column, other, of: table.name) }
            return finding(
                .typeMismatch, object: place,
                "column \"\(column.name)\" of \(table.name) is \(other.type) here and \(column.type) in \(source)",
                fix: "ALTER TABLE \(table.name.sql) ALTER COLUMN \(sqlName) TYPE \(column.type) USING "
                    + "\(sqlName)::\(column.type);")
        }
    }

    private func fits(_ column: ColumnDescription, _ other: ColumnDescription) -> Bool {
        if column.type == other.type { return true }
        // Types of users have other numbers on each server: their names decide, and a name that differs does not fit.
        let isBuiltIn = max(column.baseTypeOID, other.baseTypeOID) < TypeCompatibility.firstUserOID
        return isBuiltIn && TypeCompatibility.fits(sourceOID: column.baseTypeOID, target: other)
    }

    /// Types that differ by modifier alone.
    private func narrowing(_ column: ColumnDescription, _ other: ColumnDescription, of table: QualifiedName) -> PreflightFinding? {
        let narrowing = TypeNarrowing.of(source: column.baseTypeOID, modifier: column.baseModifier, target: other)
        guard let narrowing else { return nil }
        // Under a domain's name there is another of its own; the column may have what it stands for.
        let (here, there) = column.type == other.type ? (other.baseType, column.baseType) : (other.type, column.type)
        let consequence =
            switch narrowing {
            case .alters: "values would arrive as others, without an error"
            case .refuses: "a value that does not fit stops the direction, and of texts blanks at the end are cut"
            }
        return PreflightFinding(
            narrowing == .alters ? .blocker : .warning, .typeNarrower, database: target, object: "\(table).\(column.name)",
            "column \"\(column.name)\" of \(table) is \(here) here and \(there) in \(source): \(consequence)",
            fix: "ALTER TABLE \(table.sql) ALTER COLUMN \(SQLText.identifier(column.name)) TYPE \(there);")
    }

    private func key(of table: TableDescription, in twin: TableDescription) -> [PreflightFinding] {
        let identity = table.identityColumns
        // In a split rows are found by match, which has checks of its own.
        guard configuration.backend != .split, !identity.isEmpty, !unfinished.contains(table.name.sql) else { return [] }
        let keys = ([twin.primaryKey] + twin.uniqueKeys).filter { !$0.isEmpty }
        if keys.contains(where: { Set($0) == Set(identity) }) { return [] }
        return [
            finding(
                .targetKey, object: table.name.description,
                "table \(table.name) has no unique index on \(SQLText.list(identity)), by which its rows are found",
                fix: "CREATE UNIQUE INDEX ON \(table.name.sql) (\(SQLText.list(identity)));")
        ]
    }

    /// Columns that the stream leaves alone must be able to stand empty in a new row.
    private func untouched(
        in twin: TableDescription, _ ownership: TableOwnership, source table: TableDescription
    ) -> [PreflightFinding] {
        let isSplit = configuration.backend == .split
        // Where the other side makes no rows, nor changes their keys, none arrive: of a row that is gone here a changed key makes
        // a new one.
        let makesRows = ownership.insertOwners.contains(source) || ownership.match.contains { ownership.mayWrite($0, side: source) }
        if isSplit, !makesRows { return [] }
        return twin.columns.compactMap { column in
            let isWritten =
                travels(column.name, ownership) && table.column(column.name).map { !$0.isGenerated } ?? false
            let fillsItself =
                column.isGenerated || column.identity != .none || column.defaultExpression != nil
                || !column.isNotNull
            if isWritten || fillsItself || isSplit && ownership.fill[column.name] != nil { return nil }
            let sqlName = SQLText.identifier(column.name)
            return finding(
                .foreignNotNull, object: "\(table.name).\(column.name)",
                "column \"\(column.name)\" of \(table.name) does not travel here, is NOT NULL and has no default, so "
                    + "no new row could be written",
                fix: "ALTER TABLE \(table.name.sql) ALTER COLUMN \(sqlName) SET DEFAULT …; or ALTER COLUMN "
                    + "\(sqlName) DROP NOT NULL;"
                    + (isSplit ? " or fill: { \(column.name): … } under tables.\(TablePattern.text(for: table.name))" : ""))
        }
    }

    private func session(_ table: TableDescription, _ facts: TableFacts) -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        let sqlUser = SQLText.identifier(user)
        if facts.isFilteredByRowSecurity {
            findings.append(
                finding(
                    .rowSecurity, object: table.name.description,
                    "row security of \(table.name) applies to role \(user), and would refuse or hide rows",
                    fix: "ALTER ROLE \(sqlUser) BYPASSRLS;"))
        }
        // In a split each side's tables are looked at as a source's, too.
        if facts.isUnlogged, configuration.backend == .replica {
            findings.append(
                finding(
                    .unloggedTable, object: table.name.description,
                    "table \(table.name) is unlogged here: a crash of this server would empty it, and the stream would go on behind",
                    fix: "ALTER TABLE \(table.name.sql) SET LOGGED;"))
        }
        // In a split every column is looked at by itself.
        let rights: [(name: String, has: Bool)] =
            configuration.backend == .split
            ? []
            : [
                ("SELECT", facts.maySelect), ("INSERT", facts.mayInsert), ("UPDATE", facts.mayUpdate),
                ("DELETE", facts.mayDelete), ("TRUNCATE", facts.mayTruncate),
            ]
        let lacking = rights.filter { !$0.has }.map(\.name).joined(separator: ", ")
        if !lacking.isEmpty {
            findings.append(
                finding(
                    .targetPrivilege, object: table.name.description,
                    "role \(user) lacks \(lacking) on table \(table.name)",
                    fix: "GRANT \(lacking) ON \(table.name.sql) TO \(sqlUser);"))
        }
        if let trigger = facts.firingTriggers.first {
            findings.append(
                PreflightFinding(
                    .warning, .triggers, database: target, object: table.name.description,
                    "trigger \"\(trigger)\" of \(table.name) fires for replicated rows too (ENABLE ALWAYS or REPLICA)",
                    fix: "ALTER TABLE \(table.name.sql) ENABLE TRIGGER \(SQLText.identifier(trigger));"))
        }
        if let key = facts.deferrableKeys.first {
            let name = Self.name(ofDefinition: key)
            findings.append(
                PreflightFinding(
                    .warning, .deferrableKey, database: target, object: table.name.description,
                    "constraint \(name) of \(table.name) is deferrable, and PostgreSQL does not check such a key for "
                        + "replicated rows: a row that is only here may become a duplicate unseen",
                    fix: "ALTER TABLE \(table.name.sql) DROP CONSTRAINT \(name), ADD CONSTRAINT \(key);"))
        }
        return findings
    }

    /// The name, quoted if it has to be, before a constraint's definition.
    private static func name(ofDefinition text: String) -> String {
        guard text.hasPrefix("\"") else { return String(text.prefix { $0 != " " }) }
        var isInside = false
        return String(
            text.prefix {
                if $0 == "\"" { isInside.toggle() }
                return isInside || $0 != " "
            })
    }

    private func finding(
        _ code: PreflightFinding.Code, object: String, _ message: String, fix: String
    ) -> PreflightFinding {
        PreflightFinding(.blocker, code, database: target, object: object, message, fix: fix)
    }
}
