import ReplicationCore

/// Judges a partitioned table of a split. The stream speaks of the whole table, but what an update or a delete tells of the old
/// row is up to each partition; and an update that moves a row to another one is a delete and an insert there.
struct SplitPartitionChecks {
    let table: SplitOwnership
    let description: TableDescription
    let side: SplitSide

    private var ownership: TableOwnership { table.ownership }
    private var leaves: [SplitTableFacts.Leaf] { side.facts[ownership.table]?.leaves ?? [] }
    /// Whether the two halves of a move are to be known as one.
    private var movesRows: Bool { ownership.hasTwoOwners && !description.partitionColumns.isEmpty }

    func findings() -> [PreflightFinding] { identity() + moves() }

    /// The delete and the insert of a moved row are known by standing next to each other.
    private func moves() -> [PreflightFinding] {
        let moving = description.partitionColumns.filter { ownership.mayWrite($0, side: side.name) }
        let lost = description.columns.filter { column in
            ownership.columns[column.name] != nil && !ownership.mayWrite(column.name, side: side.name)
        }.map(\.name)
        guard let first = moving.first, !lost.isEmpty, let leaf = leaves.first(where: { !$0.insertTriggers.isEmpty }) else { return [] }
        let list = moving.joined(separator: ", ")
        return [
            PreflightFinding(
                .warning, .partitionMove, database: side.name, object: "\(ownership.table).\(first)",
                "an update of [\(list)] that moves a row of \(ownership.table) to another partition is a delete and an insert in the "
                    + "stream, and what a trigger (\(leaf.insertTriggers.joined(separator: ", ")) of \(leaf.name)) writes before the insert stands "
                    + "between them: then on \(table.other(side.name)) the row loses its [\(lost.joined(separator: ", "))], which it keeps here",
                fix: "make it an AFTER trigger, unless it changes its own row alone")
        ]
    }

    private func identity() -> [PreflightFinding] {
        let isWhole = ownership.isShared || movesRows
        var lacking = leaves.filter { leaf in
            !leaf.isFull && (isWhole || !Set(leaf.identityColumns).isSuperset(of: ownership.toldColumns))
        }.map(\.name)
        let isTold = description.replicaIdentity == .full
            || !isWhole && Set(description.identityColumns).isSuperset(of: ownership.toldColumns)
        if !isTold { lacking.insert(ownership.table, at: 0) }
        guard let first = lacking.first else { return [] }
        let those = "\(first)\(lacking.count > 1 ? " and \(lacking.count - 1) more" : "")"
        return [
            PreflightFinding(
                .blocker, isWhole ? .replicaIdentityFull : .replicaIdentity, database: side.name, object: ownership.table.description,
                need(those), fix: lacking.map { "ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;" }.joined(separator: " "))
        ]
    }

    private func need(_ those: String) -> String {
        if ownership.isShared {
            return "table \(ownership.table) has shared columns, so its changes must carry the old row too, and those of "
                + "\(those) do not: each partition has an identity of its own"
        }
        if movesRows {
            return "a row of \(ownership.table) that moves to another partition is known as the same one by its old row, which changes of "
                + "\(those) do not carry"
        }
        return "a deleted row of \(those) does not tell [\(ownership.toldColumns.joined(separator: ", "))], by which rows of "
            + "\(ownership.table) are found and known"
    }
}
