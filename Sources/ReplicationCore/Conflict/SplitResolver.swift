/// Decides what becomes of the other database's operations, given what this one did without their knowledge.
///
/// A pure function, and the same on both sides with the sides exchanged; `Split.md` has the outcomes as tables, decision
/// 0015 why they converge. How an applier uses it, for a group of transactions of one direction:
///
/// 1. Begin, write the message with `SplitTransaction.appliedNote` of the group's last transaction, and lock every key
///    that its operations name: existing rows by `SELECT … FOR UPDATE`, a key that an insert or a changed key would bring
///    by bringing it (`INSERT … ON CONFLICT DO NOTHING`): only its entry in the unique index keeps local writers
///    away. So is the key of any operation whose row is not there, where rows wait for what they refer to
///    (`RequiredReferences`). Say in a new `GroupEffects` what was there before.
/// 2. The barrier: with all locks held, commit a message on the target from another session (`synchronous_commit` on, so
///    that it is flushed, and with it all that was committed before), and wait until the target's own reader has read
///    past it. Then its `LocalHistory` knows every local commit on those rows, and what this direction did before.
/// 3. Resolve the operations in order, perform the steps, write the conflicts, the message with the effects' notes if
///    there are any, and the last transaction's progress, and commit.
/// 4. Trim the target's history to the context of that progress.
///
/// After an error all of it is done again, with new effects. A stream that was cut is begun again with a new reader
/// (`SplitReader.restart`), without what was pending from the old one; the other direction may go on meanwhile.
///
/// Where `LocalHistory.isUntouched` holds for every key, the operations need no decision, and may go in bulk: apply
/// first, then the barrier and the look into the history, then commit or roll back. Even then only columns that changed are
/// written, and counters by their difference: the others may hold what the source has not seen. A row that is missing,
/// or there already, calls for the resolver. The history must not change meanwhile: hold the lock that guards its reader.
public struct SplitResolver: Sendable {
    /// Whether the remote database's name is the greater one.
    private let remoteWinsTies: Bool
    let rules: ResolutionRules

    /// - Parameters:
    ///   - local: name of the database that is written to.
    ///   - remote: name of the database that the operations come from.
    public init(local: String, remote: String) {
        self.init(local: local, remote: remote, rules: ResolutionRules())
    }

    init(local: String, remote: String, rules: ResolutionRules) {
        remoteWinsTies = remote > local
        self.rules = rules
    }

    /// - Parameters:
    ///   - table: the layout of the operation's relation.
    ///   - history: of the local database, read past the barrier.
    ///   - required: for a table that has such references.
    ///   - hasWaited: whether all but the row that the operation makes was resolved before.
    /// - Throws: what the history's storage throws; `SplitError.needsFullIdentity` for a changed key that lacks values of the row which
    ///   has to be made under it.
    public func resolve(
        _ operation: RowOperation, of transaction: SplitTransaction, table: SplitTable,
        against history: LocalHistory, effects: inout GroupEffects, required: RequiredReferences? = nil, hasWaited: Bool = false
    ) throws -> Resolution {
        let scene = Scene(
            operation: operation, mark: transaction.mark(of: operation), context: transaction.context,
            table: table,
            history: history, required: required)
        var resolution = Resolution()
        switch operation.kind {
        case .insert:
            try insert(operation.key, scene, &effects, &resolution)
        case .update, .echo:
            try update(scene, &effects, &resolution)
        case .delete:
            let (endsRow, met) = try end(operation.key, scene, &effects)
            if endsRow {
                resolution.steps.append(.delete(operation.key))
                if table.isReferenced { effects.pass(operation.key, to: nil) }
            }
            try noteRival(met, scene, effects, &resolution)
        case .move(let newKey) where hasWaited:
            try begin(newKey, scene, &effects, &resolution)
        case .move(let newKey):
            try move(to: newKey, scene, &effects, &resolution)
        }
        return resolution
    }

    private struct Scene {
        var operation: RowOperation
        var mark: WriteMark
        var context: CausalContext
        var table: SplitTable
        var history: LocalHistory
        var required: RequiredReferences?

        /// Whether a row that the operation would make has to wait.
        var mustWait: Bool { required.map { !$0.missing.isEmpty } ?? false }
        /// Columns that can be written.
        var columns: [Int] {
            guard let missing = required?.missing, !missing.isEmpty else { return operation.columns }
            return operation.columns.filter { !missing.contains($0) }
        }
    }

    // MARK: rows

    private func insert(
        _ key: RowKey, _ scene: Scene, _ effects: inout GroupEffects, _ resolution: inout Resolution
    ) throws {
        if let deletion = try openDeletion(of: key, scene, effects), rules.deleteWins {
            return drop(scene, key, against: deletion, &resolution)
        }
        if effects.isPresent(key) {
            let writes = try decide(scene, key, effects, &resolution)
            if !writes.isEmpty { resolution.steps.append(.update(key, writes)) }
        } else if !scene.mustWait {
            resolution.steps.append(.insert(key, scene.required?.makesRow == true ? whole(scene) : plain(scene)))
            effects.create(key)
        }
    }

    private func update(_ scene: Scene, _ effects: inout GroupEffects, _ resolution: inout Resolution) throws {
        let key = scene.operation.key
        let deletion = try openDeletion(of: key, scene, effects)
        guard effects.isPresent(key), deletion == nil || !rules.deleteWins else {
            // An echo is no write of anybody's.
            if scene.operation.kind == .echo { return }
            // It may be of a row that had to wait, and still has to.
            if deletion == nil, let required = scene.required, scene.mustWait || required.makesRow {
                return try insert(key, scene, &effects, &resolution)
            }
            return drop(scene, key, against: deletion, &resolution)
        }
        let writes = try decide(scene, key, effects, &resolution)
        if !writes.isEmpty { resolution.steps.append(.update(key, writes)) }
    }

    /// Ends the generation that a remote delete means; whether there is a row to delete, and the local delete that it met.
    private func end(
        _ key: RowKey, _ scene: Scene, _ effects: inout GroupEffects
    ) throws -> (endsRow: Bool, met: LocalHistory.Deletion?) {
        if rules.matchesDeletes, let deletion = try openDeletion(of: key, scene, effects) {
            effects.match(deletion.mark.id, of: key, table: scene.table)
            return (false, deletion)
        }
        let isThere = effects.isPresent(key)
        effects.end(key, isRemembered: try scene.history.entry(of: key) != nil)
        return (isThere, nil)
    }

    private func move(
        to newKey: RowKey, _ scene: Scene, _ effects: inout GroupEffects, _ resolution: inout Resolution
    ) throws {
        let key = scene.operation.key
        let (endsRow, met) = try end(key, scene, &effects)
        try noteRival(met, scene, effects, &resolution)
        let obstacle = try openDeletion(of: newKey, scene, effects)
        resolution.successor = try successor(newKey, obstacle, scene, effects)
        // The two have crossed: it is the row that ends.
        if endsRow, resolution.successor == key { resolution.successor = nil }
        let isFree = !effects.isPresent(newKey) && obstacle == nil
        if endsRow, scene.table.isReferenced { effects.pass(key, to: resolution.successor) }
        if endsRow, isFree {
            // With what it refers to here already, where it has to wait for more.
            resolution.steps.append(.move(key, to: newKey, plain(scene)))
            return effects.create(newKey)
        }
        if endsRow { resolution.steps.append(.delete(key)) }
        if obstacle == nil || !rules.deleteWins, scene.operation.leavesValues(scene.table) { throw SplitError.needsFullIdentity(scene.table.name) }
        try begin(newKey, scene, &effects, &resolution)
    }

    /// Makes the row of a changed key, or merges it with the one that has it.
    private func begin(
        _ newKey: RowKey, _ scene: Scene, _ effects: inout GroupEffects, _ resolution: inout Resolution
    ) throws {
        let wasPresent = effects.isPresent(newKey)
        try insert(newKey, scene, &effects, &resolution)
        if !wasPresent, effects.isPresent(newKey) { effects.noteCreated(newKey, table: scene.table) }
    }

    /// The row lives on here under another key, and what refers to it with it.
    private func noteRival(
        _ met: LocalHistory.Deletion?, _ scene: Scene, _ effects: GroupEffects, _ resolution: inout Resolution
    ) throws {
        guard scene.table.isReferenced, let met else { return }
        var isMove = false
        if case .move = scene.operation.kind { isMove = true }
        // Both have deleted it, or what is left is looked for.
        guard met.isMove || isMove else { return }
        let fate = try scene.history.fate(of: met, from: scene.operation.key)
        resolution.rival = fate.key.flatMap(effects.key(ofRowFrom:))
        guard isMove else { return }
        // Of two moves of one row; both sides pick the same one.
        resolution.isRivalYielding = remoteWinsTies
        let number = try fate.end.flatMap { try scene.history.leftNumber(by: $0, in: scene.table.id) }
        resolution.left = number.map { EndedRow.Left(number: $0, hasChangedKey: met.isMove) }
    }

    /// The row that a changed key brings, or what this side had made of its own one with that key.
    private func successor(
        _ newKey: RowKey, _ obstacle: LocalHistory.Deletion?, _ scene: Scene, _ effects: GroupEffects
    ) throws -> RowKey? {
        guard scene.table.isReferenced else { return nil }
        guard let obstacle else { return newKey }
        return try obstacle.newKey.flatMap { try scene.history.laterKey(of: $0, after: obstacle.mark.id) }
            .flatMap(effects.key(ofRowFrom:))
    }

    /// The first local delete that the remote side had not seen and has not made itself.
    private func openDeletion(
        of key: RowKey, _ scene: Scene, _ effects: GroupEffects
    ) throws -> LocalHistory.Deletion? {
        try scene.history.deletions(of: key).first { deletion in
            rules.isConcurrent(deletion.mark.id.commitLSN, scene.context) && !deletion.isMatched
                && !effects.matched.contains(deletion.mark.id)
        }
    }

    /// Drops a whole operation: its row is gone.
    private func drop(
        _ scene: Scene, _ key: RowKey, against local: LocalHistory.Deletion?, _ resolution: inout Resolution
    ) {
        let kind: ConflictRecord.Kind
        switch scene.operation.kind {
        case .move: kind = .keyChange
        case _ where local?.isMove == true: kind = .keyChange
        case .insert: kind = .deleteInsert
        case .update, .delete, .echo: kind = .updateDelete
        }
        // A row that is a key and nothing else is lost all the same.
        let columns: [Int?] = scene.operation.columns.isEmpty ? [nil] : scene.operation.columns
        for column in columns {
            record(
                ConflictRecord(
                    kind: kind, key: key, column: column, decision: local == nil ? .rowMissing : .rowEnded,
                    remote: scene.mark, local: local?.mark),
                &resolution)
        }
    }

    private func record(_ conflict: ConflictRecord, _ resolution: inout Resolution) {
        for _ in 0..<rules.recordCount { resolution.conflicts.append(conflict) }
    }

    // MARK: columns

    /// All columns of a row that is new here.
    private func plain(_ scene: Scene) -> [ColumnWrite] {
        scene.columns.map { ColumnWrite(column: $0, value: .remote) }
    }

    /// The same of an update that brings all of them.
    private func whole(_ scene: Scene) -> [ColumnWrite] {
        scene.table.valueColumns.map { ColumnWrite(column: $0, value: .remote) }
    }

    private func decide(
        _ scene: Scene, _ key: RowKey, _ effects: GroupEffects, _ resolution: inout Resolution
    ) throws -> [ColumnWrite] {
        var writes: [ColumnWrite] = []
        for index in scene.columns {
            guard case .shared(let shared) = scene.table.columns[index].role else {
                writes.append(ColumnWrite(column: index, value: .remote))
                continue
            }
            if shared.policy == .delta {
                writes.append(ColumnWrite(column: index, value: rules.addsDifference ? .sum : .remote))
                continue
            }
            guard !rules.endsGenerations || !effects.ended.contains(key),
                let local = try scene.history.write(of: shared.id, in: key),
                rules.isConcurrent(local.mark.id.commitLSN, scene.context)
            else {
                writes.append(ColumnWrite(column: index, value: .remote))
                continue
            }
            // No write of anybody's: what was written here comes to the other side, and stands.
            if scene.operation.kind == .echo, rules.echoesYield { continue }
            let column = rules.asOf(shared, scene.mark, local.mark)
            let verdict = judge(scene.mark, local, column)
            if let value = verdict.value { writes.append(ColumnWrite(column: index, value: value)) }
            guard verdict.mayLose else { continue }
            record(
                ConflictRecord(
                    kind: scene.operation.kind == .update ? .column : .insertInsert, key: key, column: index,
                    decision: .policy(column.policy), remote: scene.mark, local: local.mark),
                &resolution)
        }
        return writes
    }

    /// Two concurrent writes of one column: what to write, if anything, and whether the remote one may be the loser.
    ///
    /// The outcome is a function of the two writes alone, not of what the row holds: it may hold the outcome of an
    /// earlier remote write.
    private func judge(
        _ remote: WriteMark, _ local: LocalHistory.ColumnWrite, _ column: SplitTable.SharedColumn
    ) -> (value: ColumnWrite.Value?, mayLose: Bool) {
        let isLater = rules.isLater(remote.effectiveTime, local.mark.effectiveTime, remoteWinsTies)
        // An earlier remote write that won against this local one would have made this one win, too, unless by another rule.
        let kept: ColumnWrite.Value? = column.former.isEmpty || !rules.restoresFormer ? nil : .local(local.value)
        switch column.policy {
        case .lastWrite:
            return isLater ? (.remote, false) : (kept, true)
        case .prefer:
            return rules.prefersRemote(column) ? (.remote, false) : (kept, true)
        case .max:
            return (rules.mergesStoredValue ? .greatest(local.value) : .remote, true)
        case .min:
            return (rules.mergesStoredValue ? .least(local.value) : .remote, true)
        case .queue:
            if !isLater { return (.remote, false) }
            return (rules.restoresLocal ? .local(local.value) : nil, true)
        case .delta:
            return (.sum, false)
        }
    }
}
