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
                findings += action(key, side)
            }
            findings += nullify(side)
        }
        return findings
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
