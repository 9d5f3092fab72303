import ReplicationCore

/// Judges a partitioned table of a split. The stream speaks of the whole table, but what an update or a delete tells of the old
/// row is up to each partition; and an update that moves a row to another one is a delete and an insert there.
struct SplitPartitionChecks {
    let table: SplitOwnership
    let description: TableDescription
    let side: SplitSide

    func findings(isShared: Bool) -> [PreflightFinding] { identity(isShared: isShared) + moves() }

    /// The row that a move makes on the other side has no more than what this one sends, and here it keeps what it had.
    private func moves() -> [PreflightFinding] {
        let ownership = table.ownership
        let other = table.other(side.name)
        let moving = (side.facts[ownership.table]?.partitionColumns ?? []).filter { ownership.mayWrite($0, side: side.name) }
        let lost = description.columns.filter { column in
            !column.isGenerated && ownership.columns[column.name] != nil && !ownership.match.contains(column.name)
                && !table.travels(column.name, from: side.name, to: other)
        }.map(\.name)
        guard let first = moving.first, !lost.isEmpty else { return [] }
        let list = moving.joined(separator: ", ")
        return [
            PreflightFinding(
                .warning, .partitionMove, database: side.name, object: "\(ownership.table).\(first)",
                "an update of [\(list)] that moves a row of \(ownership.table) to another partition is a delete and an insert in the "
                    + "stream: on \(other) the row loses its [\(lost.joined(separator: ", "))], which it keeps here",
                // Of a right on the whole table nothing is taken by columns.
                fix: "REVOKE UPDATE ON \(ownership.table.sql) from who writes there, and GRANT UPDATE of the columns beside [\(list)]; or give "
                    + "[\(lost.joined(separator: ", "))] to \(side.name) too, or to both (shared: with a policy)")
        ]
    }

    private func identity(isShared: Bool) -> [PreflightFinding] {
        let ownership = table.ownership
        var lacking = (side.facts[ownership.table]?.leaves ?? []).filter { leaf in
            !leaf.isFull && (isShared || !Set(leaf.identityColumns).isSuperset(of: ownership.toldColumns))
        }.map(\.name)
        let isTold = description.replicaIdentity == .full
            || !isShared && Set(description.identityColumns).isSuperset(of: ownership.toldColumns)
        if !isTold { lacking.insert(ownership.table, at: 0) }
        guard let first = lacking.first else { return [] }
        let more = lacking.count > 1 ? " and \(lacking.count - 1) more" : ""
        return [
            PreflightFinding(
                .blocker, isShared ? .replicaIdentityFull : .replicaIdentity, database: side.name, object: ownership.table.description,
                isShared
                    ? "table \(ownership.table) has shared columns, so its changes must carry the old row too, and those of "
                        + "\(first)\(more) do not: each partition has an identity of its own"
                    : "a deleted row of \(first)\(more) does not tell [\(ownership.toldColumns.joined(separator: ", "))], by which rows of "
                        + "\(ownership.table) are found and known",
                fix: lacking.map { "ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;" }.joined(separator: " "))
        ]
    }
}
