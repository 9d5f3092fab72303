/// An update that moves a row to another partition: in the stream a delete, and next to it an insert.
///
/// Taken as these, the row would lose the other owner's columns on the other side, which knows nothing of the new row.
public enum PartitionMove {
    /// Makes one update of the two again. In the place of the delete stands an update of nothing: what counts changes goes on
    /// counting them as the stream had them.
    ///
    /// A pair is known by what changed, what tells partitions apart, and by what did not: no column that whoever moved the row
    /// may not write. A service that deletes a row and inserts one that is the same in this has moved it as well.
    ///
    /// - Parameters:
    ///   - ownOrigin: of the direction that writes into the database that is read.
    ///   - tables: the layouts of the chunk's relations, by their index; those of the split alone.
    public static func join(in chunk: inout ChangeChunk, ownOrigin: String, tables: [Int: SplitTable]) {
        guard tables.values.contains(where: { !$0.partitionIndexes.isEmpty }) else { return }
        for span in chunk.transactions {
            let isEcho = span.origin == ownOrigin
            var index = span.changes.lowerBound
            while index + 1 < span.changes.upperBound {
                defer { index += 1 }
                let (half, rest) = (chunk.changes[index], chunk.changes[index + 1])
                guard half.kind == .delete, half.oldKind == .full, rest.kind == .insert, rest.relation == half.relation,
                    let table = tables[half.relation], isMove(half.old, rest.new, table, isEcho, chunk.arena)
                else { continue }
                let old = OldTuple(kind: .full, tuple: half.old)
                chunk.changes[index] = Change(kind: .update, relation: half.relation, old: old, new: half.old)
                chunk.changes[index + 1] = Change(kind: .update, relation: half.relation, old: old, new: rest.new)
            }
        }
    }

    private static func isMove(
        _ old: TupleReference, _ new: TupleReference, _ table: SplitTable, _ isEcho: Bool, _ arena: ChangeArena
    ) -> Bool {
        func isSame(_ index: Int) -> Bool {
            RowOperation.isSame(arena.cells[old.firstCell + index], arena.cells[new.firstCell + index], arena)
        }
        return !table.partitionIndexes.allSatisfy(isSame) && table.keptIndexes(isEcho: isEcho).allSatisfy(isSame)
    }
}

extension Change {
    /// Whether it is an update that `PartitionMove` has put in the place of a delete.
    var isNothing: Bool { kind == .update && oldKind == .full && old == new }
}
