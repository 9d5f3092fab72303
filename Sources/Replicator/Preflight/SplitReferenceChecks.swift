import ReplicationCore

/// Judges the foreign keys of one table of a split: do they mean the same row on both sides, and does what PostgreSQL does
/// along them stay within what the side may do?
struct SplitReferenceChecks {
    let table: SplitOwnership
    let sides: [SplitSide]
    let policy: OwnershipPolicy

    private var name: QualifiedName { table.ownership.table }
    private var ownership: TableOwnership { table.ownership }

    func findings() -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        var told: Set<[String]> = []
        for side in sides {
            for key in side.facts[name]?.foreignKeys ?? [] {
                // The same key on the other side has the same mend.
                if let finding = meaning(key, side), told.insert(key.columns + [key.referenced.description]).inserted {
                    findings.append(finding)
                }
                if let finding = merging(key, side), told.insert(key.columns + ["merging"]).inserted { findings.append(finding) }
                if let finding = orphans(key, side), told.insert(key.columns + ["orphans"]).inserted { findings.append(finding) }
                findings += action(key, side)
            }
            findings += nullify(side) + required(side) + consequenceRights(side)
        }
        return findings + policies() + circles()
    }

    /// Of two values the greater, or the sum, says nothing where they are numbers of two databases.
    private func policies() -> [PreflightFinding] {
        ownership.references.keys.sorted().compactMap { column in
            guard case .shared(let rule)? = ownership.columns[column] else { return nil }
            switch rule.policy {
            case .lastWrite, .prefer: return nil
            case .max, .min, .delta, .queue: break
            }
            return PreflightFinding(
                .blocker, .policyMissing, object: "\(name).\(column)",
                "\"\(column)\" of \(name) refers to rows by numbers that differ on the two sides: policy \(rule.policy.rawValue) can't "
                    + "compare them", fix: "\(column): { policy: last_write } (or prefer), or give it one owner")
        }
    }

    /// Whether one side may point the column at a row while that goes on the other.
    private func canMissRow(_ column: String) -> Bool {
        guard let referenced = ownership.references[column].flatMap({ policy.tables[$0] }) else { return false }
        return table.sides.contains { side in
            mayEnd(referenced, on: side, path: []) && ownership.mayWrite(column, side: table.other(side))
        }
    }

    /// Whether rows may go on a side without the other one's doing: deleted, or by `on_delete` where a delete arrives.
    private func mayEnd(_ ownership: TableOwnership, on side: String, path: Set<QualifiedName>) -> Bool {
        if ownership.deleteOwners.contains(side) { return true }
        guard ownership.onDelete == .delete, !path.contains(ownership.table) else { return false }
        return ownership.references.values.compactMap { policy.tables[$0] }.contains { referenced in
            mayEnd(referenced, on: table.other(side), path: path.union([ownership.table]))
        }
    }

    /// A column that may not be empty, where the row that it refers to is gone already, or not there yet.
    private func required(_ side: SplitSide) -> [PreflightFinding] {
        guard ownership.onDelete != .nullify, let description = side.tables[name] else { return [] }
        return ownership.references.keys.sorted().compactMap { column in
            guard description.column(column)?.isNotNull == true else { return nil }
            let dropNotNull = "ALTER TABLE \(name.sql) ALTER COLUMN \(SQLText.identifier(column)) DROP NOT NULL;"
            func finding(_ problem: String, fix: String) -> PreflightFinding {
                PreflightFinding(
                    .blocker, .foreignKeyAction, database: side.name, object: "\(name).\(column)",
                    "\"\(column)\" of \(name) is NOT NULL, and \(problem)", fix: fix)
            }
            if ownership.references[column] == name {
                return finding("a row that refers to itself has no number to write before it is there", fix: dropNotNull)
            }
            guard canMissRow(column) else { return nil }
            if ownership.onDelete == .keep {
                return finding(
                    "of a row that the other side has deleted there is no number to write",
                    fix: "on_delete: delete under tables.\(TablePattern.text(for: name)); or \(dropNotNull)")
            }
            if ownership.isReferenced {
                return finding(
                    "a row may have to wait until it refers to one that is there: what refers to \(name) would not find it meanwhile, and "
                        + "is not told again", fix: dropNotNull)
            }
            if side.facts[name]?.foreignKeys.contains(where: { $0.columns == [column] }) != true, let referenced = ownership.references[column] {
                return finding(
                    "without a foreign key a delete leaves rows that refer to nothing, which could not be made on the other side",
                    fix: "ALTER TABLE \(name.sql) ADD FOREIGN KEY (\(SQLText.identifier(column))) REFERENCES \(referenced.sql);")
            }
            if description.replicaIdentity == .full || description.kind != .ordinary { return nil }
            return PreflightFinding(
                .blocker, .replicaIdentity, database: side.name, object: "\(name).\(column)",
                "\"\(column)\" of \(name) is NOT NULL: a row may have to wait until it refers to one that is there, and then all of it "
                    + "is needed", fix: "ALTER TABLE \(name.sql) REPLICA IDENTITY FULL;")
        }
    }

    /// What `on_delete` does is done by the worker's role, and references are written when keys change.
    private func consequenceRights(_ side: SplitSide) -> [PreflightFinding] {
        guard let rights = side.facts[name]?.rights else { return [] }
        var lacks: [String] = []
        if ownership.onDelete == .delete, !ownership.references.isEmpty, !rights.mayDelete { lacks.append("DELETE") }
        let columns = ownership.references.keys.sorted().filter { !rights.updatable.contains($0) }
        if !columns.isEmpty { lacks.append("UPDATE (\(SQLText.list(columns)))") }
        if lacks.isEmpty { return [] }
        let missing = lacks.joined(separator: ", ")
        return [
            PreflightFinding(
                .blocker, .targetPrivilege, database: side.name, object: name.description,
                "what becomes of references in \(name) (on_delete: \(ownership.onDelete.rawValue), changed keys) is carried out by role "
                    + "\(side.user), which lacks \(missing)",
                fix: "GRANT \(missing) ON \(name.sql) TO \(SQLText.identifier(side.user));")
        ]
    }

    /// Deletes that lead back to their own table are carried out for one step only.
    private func circles() -> [PreflightFinding] {
        guard ownership.onDelete == .delete else { return [] }
        return ownership.references.sorted { $0.key < $1.key }.compactMap { column, referenced in
            guard leads(from: referenced, path: []) else { return nil }
            return PreflightFinding(
                .blocker, .foreignKeyAction, object: "\(name).\(column)",
                "on_delete: delete of \(name) leads back to \(name): a delete would not reach all rows on both sides",
                fix: "on_delete: nullify|keep for one table of the circle")
        }
    }

    /// Whether deletes in this table lead to deletes in `other`.
    private func leads(from other: QualifiedName, path: Set<QualifiedName>) -> Bool {
        if other == name { return true }
        guard !path.contains(other), let next = policy.tables[other], next.onDelete == .delete else { return false }
        return next.references.values.contains { leads(from: $0, path: path.union([other])) }
    }

    private func meaning(_ key: SplitTableFacts.ForeignKey, _ side: SplitSide) -> PreflightFinding? {
        let columns = key.columns.joined(separator: ", ")
        guard key.columns.contains(where: table.travels) else { return nil }
        guard let referenced = policy.tables[key.referenced] else {
            return finding(
                side, .foreignKeyCut, key, "[\(columns)] of \(name) refers to \(key.referenced), whose rows stay in their database",
                fix: "list \(key.referenced) under tables:; or ALTER TABLE \(name.sql) DROP CONSTRAINT \(SQLText.identifier(key.name));")
        }
        let other = SplitOwnership(ownership: referenced, sides: table.sides)
        let differing = zip(key.columns, key.referencedColumns).filter { _, target in
            !referenced.match.contains(target) && !other.isSameOnBothSides(target)
        }
        let open = differing.filter { column, _ in ownership.references[column] != key.referenced }
        guard let first = open.first else { return nil }
        return finding(
            side, .foreignKeyCut, key,
            "\"\(first.0)\" of \(name) holds \"\(first.1)\" of \(key.referenced), which is another value on the other side (rows "
                + "are matched by [\(referenced.match.joined(separator: ", "))])",
            fix: "references: { \(first.0): \(TablePattern.text(for: key.referenced)) } under tables.\(TablePattern.text(for: name))")
    }

    /// What both sides know a row by: nothing is done about rows that come to refer to it while the other side deletes it.
    private func orphans(_ key: SplitTableFacts.ForeignKey, _ side: SplitSide) -> PreflightFinding? {
        guard let referenced = policy.tables[key.referenced], key.columns.allSatisfy({ ownership.references[$0] == nil }) else { return nil }
        let deleting = table.sides.first { deleting in
            referenced.deleteOwners.contains(deleting)
                && key.columns.contains { ownership.mayWrite($0, side: table.other(deleting)) && table.travels($0) }
        }
        guard let deleting else { return nil }
        let columns = key.columns.joined(separator: ", ")
        return PreflightFinding(
            .warning, .foreignKeyCut, database: side.name, object: "\(name).\(key.columns.first ?? "")",
            "\(deleting) may delete a row of \(key.referenced) while \(table.other(deleting)) lets [\(columns)] of \(name) refer to it: then that "
                + "refers to nothing, on both sides, in spite of foreign key \(key.name)",
            fix: "see that one side alone deletes rows of \(key.referenced) and writes [\(columns)]; or mark such rows instead of deleting them")
    }

    /// A number that travels, of rows that both sides make for a while: where they make the same one, one number stands.
    private func merging(_ key: SplitTableFacts.ForeignKey, _ side: SplitSide) -> PreflightFinding? {
        guard let referenced = policy.tables[key.referenced], ownership.references[key.columns.first ?? ""] == nil,
            let number = key.referencedColumns.first(where: { !referenced.match.contains($0) && referenced.moving[$0] != nil })
        else { return nil }
        return PreflightFinding(
            .warning, .foreignKeyCut, database: side.name, object: "\(name).\(key.columns.first ?? "")",
            "a row of \(key.referenced) that both sides make at once keeps one \"\(number)\", and rows of \(name) may still hold the other "
                + "(it is in lindero.conflict)",
            fix: "see that one place at a time makes the same [\(referenced.match.joined(separator: ", "))]; or references: { "
                + "\(key.columns.first ?? ""): \(TablePattern.text(for: key.referenced)) } under tables.\(TablePattern.text(for: name))")
    }

    /// A cascade is a write of the side that deletes.
    private func action(_ key: SplitTableFacts.ForeignKey, _ side: SplitSide) -> [PreflightFinding] {
        guard let referenced = policy.tables[key.referenced], referenced.deleteOwners.contains(side.name) else { return [] }
        let what: String
        switch key.onDelete {
        case .none, .restrict: return []
        case .cascade:
            if ownership.deleteOwners.contains(side.name) { return [] }
            what = "deletes rows of \(name), which \(side.name) may not"
        case .setNull, .setDefault:
            guard let column = key.columns.first(where: { !ownership.mayWrite($0, side: side.name) }) else { return [] }
            what = "changes \"\(column)\" of \(name), which \(side.name) does not own"
        }
        return [
            finding(
                side, .foreignKeyAction, key, "a delete in \(key.referenced) on \(side.name) \(what) (foreign key \(key.name))",
                fix: "make the key NO ACTION on \(side.name) and say on_delete: under tables.\(TablePattern.text(for: name)); or let "
                    + "\(side.name) do it too")
        ]
    }

    private func nullify(_ side: SplitSide) -> [PreflightFinding] {
        guard ownership.onDelete == .nullify else { return [] }
        return ownership.references.keys.sorted().compactMap { column in
            guard side.tables[name]?.column(column)?.isNotNull == true else { return nil }
            return PreflightFinding(
                .blocker, .foreignKeyAction, database: side.name, object: "\(name).\(column)",
                "on_delete: nullify empties \"\(column)\" of \(name), which is NOT NULL",
                fix: "ALTER TABLE \(name.sql) ALTER COLUMN \(SQLText.identifier(column)) DROP NOT NULL; or on_delete: delete|keep")
        }
    }

    private func finding(
        _ side: SplitSide, _ code: PreflightFinding.Code, _ key: SplitTableFacts.ForeignKey, _ message: String, fix: String
    ) -> PreflightFinding {
        PreflightFinding(
            .blocker, code, database: side.name, object: "\(name).\(key.columns.first ?? "")", message, fix: fix)
    }
}
