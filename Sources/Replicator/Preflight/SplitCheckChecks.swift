import ReplicationCore

/// Judges the CHECK constraints of one table of a split: can what each side is allowed to write, taken together, be refused?
struct SplitCheckChecks {
    let table: SplitOwnership
    let sides: [SplitSide]

    private var ownership: TableOwnership { table.ownership }

    func findings() -> [PreflightFinding] {
        let name = ownership.table
        var told: Set<[String]> = []
        return sides.flatMap { side in
            (side.facts[name]?.checks ?? []).compactMap { check -> PreflightFinding? in
                guard canBreak(check.columns, at: side.name), told.insert(check.columns).inserted else { return nil }
                let list = check.columns.joined(separator: ", ")
                return PreflightFinding(
                    .blocker, .checkConstraint, database: side.name, object: "\(name).\(check.columns.first ?? "")",
                    "both sides write what CHECK constraint \(check.name) of \(name) looks at, [\(list)]: each may keep it, and both "
                        + "together break it, which stops the split",
                    fix: "ALTER TABLE \(name.sql) DROP CONSTRAINT \(SQLText.identifier(check.name)); on both sides; or give [\(list)] one owner")
            }
        }
    }

    /// Whether a value that arrives may meet one that was written here, or a counter a difference.
    private func canBreak(_ columns: [String], at side: String) -> Bool {
        let source = table.other(side)
        let values = columns.filter { !ownership.match.contains($0) }
        return values.contains { arriving in
            guard ownership.mayWrite(arriving, side: source), table.travels(arriving, from: source, to: side) else { return false }
            if case .shared(let rule)? = ownership.columns[arriving], rule.policy == .delta { return true }
            return values.contains { $0 != arriving && ownership.mayWrite($0, side: side) }
        }
    }
}
