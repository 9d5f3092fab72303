import ReplicationCore

/// Judges a partitioned table of a split. The stream speaks of the whole table, but what an update or a delete tells of the old
/// row is up to each partition.
struct SplitPartitionChecks {
    let table: SplitOwnership
    let description: TableDescription
    let side: SplitSide

    /// - Parameter large: columns whose values a changed key may leave out.
    func findings(isShared: Bool, large: [String]) -> [PreflightFinding] {
        let ownership = table.ownership
        let needsWhole = isShared || !large.isEmpty
        var lacking = (side.facts[ownership.table]?.leaves ?? []).filter { leaf in
            !leaf.isFull && (needsWhole || !Set(leaf.identityColumns).isSuperset(of: ownership.toldColumns))
        }.map(\.name)
        let isTold = description.replicaIdentity == .full
            || !needsWhole && Set(description.identityColumns).isSuperset(of: ownership.toldColumns)
        if !isTold { lacking.insert(ownership.table, at: 0) }
        guard let first = lacking.first else { return [] }
        let more = lacking.count > 1 ? " and \(lacking.count - 1) more" : ""
        return [
            PreflightFinding(
                .blocker, isShared ? .replicaIdentityFull : .replicaIdentity, database: side.name, object: ownership.table.description,
                isShared
                    ? "table \(ownership.table) has shared columns, so its changes must carry the old row too, and those of "
                        + "\(first)\(more) do not: each partition has an identity of its own"
                    : needsWhole
                    ? "a changed key of \(first)\(more) does not carry large values of [\(large.joined(separator: ", "))] of "
                        + "\(ownership.table), which would be missing on \(table.other(side.name)) where both sides write that row at the same time"
                    : "a deleted row of \(first)\(more) does not tell [\(ownership.toldColumns.joined(separator: ", "))], by which rows of "
                        + "\(ownership.table) are found and known",
                fix: lacking.map { "ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;" }.joined(separator: " "))
        ]
    }
}
