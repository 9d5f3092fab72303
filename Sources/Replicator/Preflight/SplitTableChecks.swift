import ReplicationCore

/// Judges one table of a split on both sides: can every row be found, made and deleted there, and can two sides make
/// what does not fit together?
struct SplitTableChecks {
    let table: SplitOwnership
    let sides: [SplitSide]
    /// Columns whose numbers come from sequences on both sides, which never give the same one.
    let numberedColumns: Set<String>

    private var name: QualifiedName { table.ownership.table }
    private var ownership: TableOwnership { table.ownership }

    func findings() -> [PreflightFinding] {
        var findings = sides.flatMap { match($0) + rights($0) + triggers($0) + truncates($0) }
        findings += uniqueKeys() + movedUniqueKeys() + SplitCheckChecks(table: table, sides: sides).findings() + deletes() + numberedMatch() + quarantine()
        return findings
    }

    /// A change that is set aside could not be decided about later, when more has come on both sides.
    private func quarantine() -> [PreflightFinding] {
        guard ownership.onError == .quarantine else { return [] }
        return [
            PreflightFinding(
                .warning, .onError, object: name.description,
                "on_error: quarantine of \(name) holds for a replica alone: a split stops before a change that the server refuses",
                fix: "on_error: stop, to say what happens")
        ]
    }

    // MARK: identity

    /// Rows are found by `match` on both sides, and the old row must carry it.
    private func match(_ side: SplitSide) -> [PreflightFinding] {
        guard let description = side.tables[name] else { return [] }
        let columns = SQLText.list(ownership.match)
        var findings: [PreflightFinding] = []
        if ownership.match.isEmpty {
            return [
                finding(
                    .blocker, .matchKey, side, "rows of \(name) can't be told apart: the table has neither match nor a primary key",
                    fix: "ALTER TABLE \(name.sql) ADD PRIMARY KEY (…); or name a unique key under match:")
            ]
        }
        let keys = ([description.primaryKey] + description.uniqueKeys).filter { !$0.isEmpty }
        if !keys.contains(where: { Set($0) == Set(ownership.match) }) {
            findings.append(
                finding(
                    .blocker, .matchKey, side, "match [\(ownership.match.joined(separator: ", "))] of \(name) is not unique here",
                    fix: "CREATE UNIQUE INDEX ON \(name.sql) (\(columns));"))
        }
        for column in ownership.match where description.column(column)?.isNotNull == false {
            findings.append(
                finding(
                    .blocker, .matchKey, side, column: column,
                    "column \"\(column)\" is in match of \(name) and may be NULL, and NULL is no identity",
                    fix: "ALTER TABLE \(name.sql) ALTER COLUMN \(SQLText.identifier(column)) SET NOT NULL;"))
        }
        return findings + ownership.match.compactMap { bytes(of: $0, description, side) } + identity(description, side)
    }

    /// Keys of both sides are compared byte by byte.
    private func bytes(of column: String, _ description: TableDescription, _ side: SplitSide) -> PreflightFinding? {
        guard let found = description.column(column) else { return nil }
        let isLoose = side.facts[name]?.looseColumns.contains(column) == true || found.castName?.hasSuffix("citext") == true
        // With a scale of its own a column writes every number in one way.
        guard isLoose || found.type == "numeric" else { return nil }
        return finding(
            isLoose ? .blocker : .warning, .matchKey, side, column: column,
            "equal values of \"\(column)\", which is in match of \(name), may differ in bytes (\(found.type)), and would be two rows",
            fix: isLoose
                ? "ALTER TABLE \(name.sql) ALTER COLUMN \(SQLText.identifier(column)) TYPE text COLLATE \"C\"; or another match:"
                : "ALTER TABLE \(name.sql) ALTER COLUMN \(SQLText.identifier(column)) TYPE numeric(…, …); or another match:")
    }

    private func identity(_ description: TableDescription, _ side: SplitSide) -> [PreflightFinding] {
        let isShared = ownership.columns.values.contains { if case .shared = $0 { true } else { false } }
        if description.kind == .partitioned {
            let large = ownership.largeColumnsLeftBehind(description, on: side.name, by: table.other(side.name))
            return SplitPartitionChecks(table: table, description: description, side: side).findings(isShared: isShared, large: large)
        }
        guard description.kind == .ordinary, description.replicaIdentity != .full else { return [] }
        // Asked for already, with every old column.
        let told = Set(description.identityColumns)
        if isShared { return [] }
        if told.isSuperset(of: ownership.toldColumns) { return largeValues(description, side) }
        let need =
            told.isSuperset(of: ownership.match)
            ? "rows of other tables have known it by \"\(ownership.surrogate ?? "")\""
            : "rows are found by match [\(ownership.match.joined(separator: ", "))]"
        return [
            finding(
                .blocker, .replicaIdentity, side,
                "a deleted row of \(name) tells [\(description.identityColumns.joined(separator: ", "))] alone, and "
                    + need,
                fix: "ALTER TABLE \(name.sql) REPLICA IDENTITY FULL; or, smaller: REPLICA IDENTITY USING INDEX, with one on "
                    + "(\(SQLText.list(ownership.toldColumns)))")
        ]
    }

    /// The stream does not send a value that has not changed and that TOAST keeps elsewhere, unless the old row has it.
    private func largeValues(_ description: TableDescription, _ side: SplitSide) -> [PreflightFinding] {
        let other = table.other(side.name)
        let columns = ownership.largeColumnsLeftBehind(description, on: side.name, by: other)
        if columns.isEmpty { return [] }
        return [
            finding(
                .blocker, .replicaIdentity, side,
                "a changed key of \(name) does not carry large values of [\(columns.joined(separator: ", "))], which would be missing on "
                    + "\(other) where both sides write that row at the same time",
                fix: "ALTER TABLE \(name.sql) REPLICA IDENTITY FULL;")
        ]
    }

    /// The worker's role writes what arrives, and whole rows where the other side makes them or changes their key.
    private func rights(_ side: SplitSide) -> [PreflightFinding] {
        guard let description = side.tables[name], let rights = side.facts[name]?.rights else { return [] }
        let source = table.other(side.name)
        let arriving = description.columns.filter { !$0.isGenerated && table.travels($0.name, from: source, to: side.name) }.map(\.name)
        let inserted = (arriving + ownership.fill.keys.filter { !arriving.contains($0) && description.column($0) != nil }).sorted()
        let missing: [(right: String, columns: [String])] = [
            ("INSERT", inserted.filter { !rights.insertable.contains($0) }),
            ("UPDATE", arriving.sorted().filter { !rights.updatable.contains($0) }),
        ].filter { !$0.columns.isEmpty }
        var grants = missing.map { "\($0.right) (\(SQLText.list($0.columns)))" }
        if ownership.deleteOwners.contains(source), !rights.mayDelete { grants.append("DELETE") }
        if !rights.maySelect { grants.append("SELECT") }
        if grants.isEmpty { return [] }
        return [
            finding(
                .blocker, .targetPrivilege, side,
                "role \(side.user) may not write what arrives in \(name): it lacks \(grants.joined(separator: ", "))",
                fix: "GRANT \(grants.joined(separator: ", ")) ON \(name.sql) TO \(SQLText.identifier(side.user));")
        ]
    }

    /// Nobody knows that two rows mean the same thing if each side numbers its own.
    private func numberedMatch() -> [PreflightFinding] {
        guard table.isMadeByBoth, let column = ownership.match.first(where: { isNumbered($0) }) else { return [] }
        return [
            PreflightFinding(
                .warning, .matchNumbered, object: "\(name).\(column)",
                "rows of \(name) are matched by \"\(column)\", a number that each side gives by itself: what is entered on both "
                    + "sides becomes two rows",
                fix: "match: [a natural key], if the table has one")
        ]
    }

    private func isNumbered(_ column: String) -> Bool {
        sides.contains { side in
            guard let found = side.tables[name]?.column(column) else { return false }
            return found.identity != .none || found.defaultExpression?.contains("nextval(") == true
        }
    }

    // MARK: what two sides can make

    private func uniqueKeys() -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        var told: Set<Set<String>> = []
        for side in sides {
            for index in side.facts[name]?.uniqueIndexes ?? [] {
                let columns = Set(index.columns)
                guard canMeet(columns, in: side), told.insert(columns).inserted else { continue }
                let list = index.columns.joined(separator: ", ")
                findings.append(
                    finding(
                        .blocker, .uniqueKey, side, column: index.columns.first,
                        "both sides can make the same [\(list)] of \(name) in different rows (unique index \(index.name)), and the "
                            + "second is refused",
                        fix: "give [\(list)] one owner or insert: one side; or make it match:; or \(index.removal(from: name))"))
            }
        }
        return findings
    }

    /// Whether a value that arrives can be one that was made here, in another row.
    private func canMeet(_ columns: Set<String>, in side: SplitSide) -> Bool {
        guard !columns.isEmpty, !columns.isSuperset(of: ownership.match) || ownership.match.isEmpty else { return false }
        if columns.contains(where: { isMadeUnique($0, in: side) }) { return false }
        // The same filling for every row that the other side makes.
        if columns.allSatisfy({ ownership.fill[$0] != nil }), table.isMadeByBoth { return true }
        return table.sides.contains { target in
            let source = table.other(target)
            let arrives = columns.contains { ownership.mayWrite($0, side: source) && table.travels($0, from: source, to: target) }
            return arrives && columns.contains { ownership.mayWrite($0, side: target) }
        }
    }

    /// An update of a row whose key the other side changes at the same moment is dropped there, and its owner's values come
    /// with the row later: what its unique value was until then stands in the way of the next row that takes it, and what
    /// would end that comes behind it. Who owns the columns keeps them unique; the other side need not, and must not.
    private func movedUniqueKeys() -> [PreflightFinding] {
        var told: Set<Set<String>> = []
        return sides.flatMap { side in
            let source = table.other(side.name)
            let changesKeys = ownership.match.contains { ownership.mayWrite($0, side: side.name) }
            return (side.facts[name]?.uniqueIndexes ?? []).compactMap { index -> PreflightFinding? in
                let columns = Set(index.columns)
                let arrives = columns.subtracting(ownership.match).contains {
                    ownership.owner(of: $0) == source && table.travels($0, from: source, to: side.name)
                }
                guard changesKeys, arrives, !canMeet(columns, in: side), !columns.isSuperset(of: ownership.match),
                    !columns.contains(where: { isMadeUnique($0, in: side) }), told.insert(columns).inserted
                else { return nil }
                let list = index.columns.joined(separator: ", ")
                return finding(
                    .blocker, .uniqueKeyMove, side, column: index.columns.first,
                    "\(side.name) may change match [\(ownership.match.joined(separator: ", "))] of \(name) while \(source) gives its "
                        + "unique [\(list)] to another row, which would stop the split (unique index \(index.name))",
                    fix: "\(index.removal(from: name)) on \(side.name) alone: \(source), who writes [\(list)], keeps it unique; or give "
                        + "match and [\(list)] one owner")
            }
        }
    }

    /// Random identifiers, and numbers that were shared out.
    private func isMadeUnique(_ column: String, in side: SplitSide) -> Bool {
        side.tables[name]?.column(column)?.baseTypeOID == 2950 || numberedColumns.contains(column)
    }

    private func deletes() -> [PreflightFinding] {
        guard table.isDeletedByBoth else { return [] }
        return [
            PreflightFinding(
                .warning, .deletedByBoth, object: name.description,
                "both sides may delete rows of \(name): a delete wins over what the other side writes at the same time",
                fix: "delete: with the one database that may, under tables.\(name)")
        ]
    }

    private func truncates(_ side: SplitSide) -> [PreflightFinding] {
        (side.facts[name]?.truncatingRoles ?? []).map { role in
            finding(
                .warning, .truncateRight, side,
                "role \(role) may TRUNCATE \(name), which names no rows and can't be carried across: the direction would stop",
                fix: "REVOKE TRUNCATE ON \(name.sql) FROM \(SQLText.identifier(role)); and use DELETE")
        }
    }

    // MARK: triggers

    private func triggers(_ side: SplitSide) -> [PreflightFinding] {
        guard let description = side.tables[name] else { return [] }
        return (side.facts[name]?.triggers ?? []).compactMap { trigger in
            replicaTrigger(trigger, description, side) ?? foreignTrigger(trigger, description, side)
        }
    }

    /// What a trigger makes of a row that arrives never goes back.
    private func replicaTrigger(
        _ trigger: SplitTableFacts.Trigger, _ description: TableDescription, _ side: SplitSide
    ) -> PreflightFinding? {
        guard trigger.firesForReplicas else { return nil }
        let written = TriggerWrites.columns(of: trigger).filter {
            description.column($0) != nil && table.travels($0, from: side.name, to: table.other(side.name))
        }.sorted()
        guard !written.isEmpty else { return nil }
        return finding(
            .blocker, .triggers, side, column: written.first,
            "trigger \"\(trigger.name)\" of \(name) writes [\(written.joined(separator: ", "))] in rows that arrive too (ENABLE ALWAYS "
                + "or REPLICA), and \(table.other(side.name)) never gets what it writes there",
            fix: "ALTER TABLE \(name.sql) ENABLE TRIGGER \(SQLText.identifier(trigger.name));")
    }

    private func foreignTrigger(
        _ trigger: SplitTableFacts.Trigger, _ description: TableDescription, _ side: SplitSide
    ) -> PreflightFinding? {
        let foreign = TriggerWrites.columns(of: trigger).filter {
            description.column($0) != nil && ownership.columns[$0] != nil && !ownership.mayWrite($0, side: side.name)
        }.sorted()
        guard !foreign.isEmpty else { return nil }
        return finding(
            .blocker, .foreignTrigger, side, column: foreign.first,
            "trigger \"\(trigger.name)\" of \(name) writes [\(foreign.joined(separator: ", "))], which \(side.name) does not own",
            fix: "ALTER TABLE \(name.sql) DISABLE TRIGGER \(SQLText.identifier(trigger.name)); or make them shared: with a policy")
    }

    private func finding(
        _ severity: PreflightFinding.Severity, _ code: PreflightFinding.Code, _ side: SplitSide, column: String? = nil,
        _ message: String, fix: String
    ) -> PreflightFinding {
        PreflightFinding(
            severity, code, database: side.name, object: column.map { "\(name).\($0)" } ?? name.description, message, fix: fix)
    }
}
