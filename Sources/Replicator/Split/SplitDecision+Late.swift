import PostgresClient
import ReplicationCore

extension SplitDecision {
    /// Carries out what a source transaction had referred to before it made it; now all of it has been.
    mutating func finish(
        _ entries: [LateReferences.Entry], _ resolver: SplitResolver, _ history: LocalHistory, _ names: inout SplitStatementNames
    ) throws {
        var waiting = entries.filter { $0.kind != .written }
        var isDone = false
        // One may be what another has waited for.
        while !isDone {
            var rest: [LateReferences.Entry] = []
            isDone = true
            for entry in waiting {
                guard try make(entry, resolver, history, &names) else {
                    rest.append(entry)
                    continue
                }
                isDone = false
                // It brought the whole row: what was written before it is over.
                rest.removeAll { $0.kind == .row && $0.key == entry.key }
            }
            waiting = rest
        }
        for entry in entries where entry.kind == .written { write(entry, &names) }
    }

    /// Resolves anew what could not be made or written in its place; false where it still can't.
    private mutating func make(
        _ entry: LateReferences.Entry, _ resolver: SplitResolver, _ history: LocalHistory, _ names: inout SplitStatementNames
    ) throws -> Bool {
        let (statements, arena) = (entry.statements, entry.chunk.chunk.arena)
        let moment = moment(in: entry.transaction)
        let required = required(entry.last, statements.target, arena, moment)
        var operation = entry.operation
        if entry.kind == .left { (operation.kind, operation.key, operation.columns) = (.update, entry.key, entry.columns) }
        let resolution = try resolver.resolve(
            operation, of: entry.transaction, table: statements.target.table, against: history, effects: &effects, required: required,
            hasWaited: entry.kind == .row)
        if resolution.steps.isEmpty, resolution.conflicts.isEmpty { return false }
        // The row is a new one now, whatever its key was.
        if entry.kind == .row, operation.kind != .update { (operation.kind, operation.key) = (.insert, entry.key) }
        _ = ended.note(operation, resolution, statements.target.table, in: entry.transaction.context)
        operation.id = entry.last.id
        for step in resolution.steps { perform(step, operation, arena, statements, moment, entry.change, &names) }
        for conflict in resolution.conflicts {
            add(statements.record(conflict, operation, arena, moment), rows: nil, entry.change, &names)
        }
        return true
    }

    /// Writes once more what was written, by what it means at the end; what means nothing by then stays.
    private mutating func write(_ entry: LateReferences.Entry, _ names: inout SplitStatementNames) {
        let (target, arena, last) = (entry.statements.target, entry.chunk.chunk.arena, entry.last)
        let moment = moment(in: entry.transaction)
        let writes = entry.columns.filter { column in
            guard let reference = target.references[column], let bytes = target.bytes(column, last, arena),
                let key = moment.key(of: bytes, reference, in: last)
            else { return false }
            return !reference.isRequired || isHere(key)
        }.map { ColumnWrite(column: $0, value: .remote) }
        if writes.isEmpty { return }
        add(entry.statements.step(.update(entry.key, writes), last, arena, moment), rows: 1, entry.change, &names)
    }
}

extension LateReferences.Entry {
    /// What to name where the server refuses it.
    fileprivate var change: FailedChange { FailedChange(operation, transaction, chunk, statements.target.table.name) }
}

extension FailedChange {
    init(_ operation: RowOperation, _ transaction: SplitTransaction, _ chunk: SplitChunk, _ table: QualifiedName) {
        let kind: Change.Kind =
            switch operation.kind {
            case .insert: .insert
            case .update, .move, .echo: .update
            case .delete: .delete
            }
        self.init(
            table: table, kind: kind, xid: chunk.chunk.transactions[transaction.span].xid, commitLSN: transaction.commitLSN,
            position: operation.id.position)
    }
}
