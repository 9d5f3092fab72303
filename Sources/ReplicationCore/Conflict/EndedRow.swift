/// A row that others may refer to, and that the source has deleted or given another key: what becomes of those that still
/// do on the target.
public struct EndedRow: Sendable, Equatable {
    public enum Row: Sendable, Equatable {
        /// By the number that it had before the group.
        case number(String)
        /// Made in the group, as the one with this place among such rows: what number it got is known once it is written.
        case made(Int)
        /// The target had given it another key at the same time: by that key.
        case rival(RowKey)
        /// The target had deleted it, whatever key the source gave it at the same time. Without a foreign key some may still hold
        /// its number.
        case left(Left)
    }

    public struct Left: Sendable, Equatable {
        /// That it had in the end, and nobody since.
        public let number: LocalHistory.Number
        /// Whether the target had given it another key before.
        let hasChangedKey: Bool
    }

    enum Outcome: Sendable, Equatable {
        /// The row is still there, and references to it mean it.
        case stays
        /// The same, and the other side moves references to its own row here, this one, as long as it has that.
        case stands(beside: RowKey?)
        /// References are to mean this row from now on, if it is there.
        case merges(RowKey?)
    }

    /// What is done about the target's references to the row.
    public enum Settlement: Sendable, Equatable {
        /// They are to mean the other row.
        case move
        /// The same, if no row of the target has the number.
        case moveUnused
        /// Each that the source may not have seen is written once more as it is (`SplitNote.consequences`), now that what the
        /// source has done is known.
        case tellAgain
        /// `on_delete` is carried out, and those that it keeps are told again.
        case end
        /// All of them are.
        case tellAll
        /// The source, which alone writes them, tells what they mean.
        case leave
    }

    /// Whose services write the references.
    public enum Writer: Sendable { case both, source, target }

    /// `SplitTable.id`.
    public let table: Int
    public fileprivate(set) var row: Row
    fileprivate(set) var outcome: Outcome
    /// What the source had seen when it did so.
    public let context: CausalContext

    /// Another row on which it depends, if that is there.
    public var other: RowKey? {
        switch outcome {
        case .stays: nil
        case .stands(let other), .merges(let other): other
        }
    }

    /// - Parameters:
    ///   - number: of the row, on the target.
    ///   - otherNumber: of the other one; `nil` when that is not there.
    public func settlement(number: String, otherNumber: String?, writer: Writer = .both) -> Settlement {
        let settlement = settlement(number, otherNumber)
        switch (writer, row, settlement) {
        // To a row that the target has moved may refer what meant another one, onto which it was moved: only who wrote it can
        // tell. What the target writes of it does not travel.
        case (.source, .rival, _), (.source, .left, _), (.source, _, .tellAgain): return .leave
        // The source tells all that refer to its row once it knows of the delete (`stays`), and what it has written since stands.
        case (.both, .left(let left), _) where !left.hasChangedKey: return .leave
        case (.target, .rival, .tellAgain): return .tellAll
        case (.both, _, _), (.source, _, _), (.target, _, _): return settlement
        }
    }

    private func settlement(_ number: String, _ otherNumber: String?) -> Settlement {
        switch (outcome, row, otherNumber) {
        // The row with the new key is theirs on the source, too.
        case (.merges, .left, .some): .moveUnused
        case (_, .left, _): .leave
        // The source has deleted it, and what its own rows said of it means nothing there.
        case (.stays, .rival, _): .tellAll
        case (.stays, _, _), (.stands, _, .some): .tellAgain
        // It is that row: the source has another way to it.
        case (.merges, _, .some(let place)): place == number ? .tellAgain : .move
        // Its row lives on here, and the source has it, but not a row of its own.
        case (.stands, _, nil), (.merges, .rival, nil): .tellAll
        case (.merges, .number, nil), (.merges, .made, nil): .end
        }
    }
}

extension RowOperation.Kind {
    fileprivate var isMove: Bool {
        if case .move = self { true } else { false }
    }
}

/// The rows of a group that have ended so, in order.
public struct EndedRows: Sendable {
    /// What is known of the numbers of rows that others may refer to, by their keys on the target.
    private var known: [RowKey: EndedRow.Row] = [:]
    private var madeCount = 0
    private var all: [EndedRow?] = []
    /// Where in it a row of the target is named by its key.
    private var places: [RowKey: [Int]] = [:]
    public var rows: [EndedRow] { all.compactMap { $0 } }
    public var isEmpty: Bool { all.isEmpty }

    public init() {}

    /// Keys by which rows are to be looked for and that the group does not hold: the history says what has them, and the
    /// target's writers may change that. Once they are held, and the target is read past that, `LocalHistory.hasEnded` says
    /// whether it was so when it was decided; if not, the group begins again.
    public func unheldKeys(after effects: GroupEffects) -> Set<RowKey> {
        Set(places.keys.lazy.filter { !effects.isPresent($0) })
    }

    /// The applier holds a row that was there before the group.
    public mutating func note(_ key: RowKey, number: String?) { known[key] = number.map { .number($0) } }

    /// Takes note of what was decided about an operation.
    ///
    /// - Parameter context: of its transaction.
    /// - Returns: the row that the group has made and the operation ends (`EndedRow.Row.made`), if that is one: before its steps
    ///   are performed the row has the operation's key, and its number is to be looked at.
    public mutating func note(
        _ operation: RowOperation, _ resolution: Resolution, _ table: SplitTable, in context: CausalContext
    ) -> Int? {
        guard table.isReferenced else { return nil }
        noteEnd(operation, resolution, table.id, context)
        var made: Int?
        for step in resolution.steps {
            switch step {
            case .insert(let key, _):
                known[key] = .made(madeCount)
                madeCount += 1
            case .delete(let key):
                if case .made(let row)? = known.removeValue(forKey: key) { made = row }
            case .move(let key, let newKey, _): known[newKey] = known.removeValue(forKey: key)
            case .update: break
            }
        }
        return made
    }

    private mutating func add(_ row: EndedRow) {
        all.append(row)
        notePlaces(all.count - 1)
    }

    private mutating func notePlaces(_ index: Int) {
        guard let row = all[index] else { return }
        if case .rival(let key) = row.row { places[key, default: []].append(index) }
        if let other = row.other { places[other, default: []].append(index) }
    }

    /// Where an earlier operation has led to moves on, or goes: its key is another row's by the end of the group.
    private mutating func follow(_ operation: RowOperation, _ resolution: Resolution) {
        let key = operation.key
        guard let named = places[key] else { return }
        var (isMoved, isDeleted) = (false, false)
        for step in resolution.steps {
            switch step {
            case .move(key, _, _): isMoved = true
            case .delete(key): isDeleted = true
            case .insert, .update, .move, .delete: break
            }
        }
        guard isMoved || isDeleted || operation.kind.isMove else { return }
        places[key] = nil
        for index in Set(named) {
            if all[index]?.row == .rival(key) {
                // What refers to it goes with what has deleted it.
                if isDeleted { all[index] = nil }
                if isMoved, let newKey = resolution.successor { all[index]?.row = .rival(newKey) }
            }
            if all[index]?.outcome == .merges(key) { all[index]?.outcome = .merges(resolution.successor) }
            if all[index]?.outcome == .stands(beside: key) {
                all[index]?.outcome = .stands(beside: resolution.successor)
            }
            notePlaces(index)
        }
    }

    private mutating func noteEnd(
        _ operation: RowOperation, _ resolution: Resolution, _ table: Int, _ context: CausalContext
    ) {
        func end(_ row: EndedRow.Row, _ outcome: EndedRow.Outcome) {
            add(EndedRow(table: table, row: row, outcome: outcome, context: context))
        }
        follow(operation, resolution)
        if let rival = resolution.rival {
            let outcome: EndedRow.Outcome =
                if case .move(let newKey) = operation.kind {
                    resolution.isRivalYielding
                        ? .merges(resolution.successor)
                        : .stands(beside: resolution.successor == newKey ? newKey : nil)
                } else {
                    .stays
                }
            end(.rival(rival), outcome)
        }
        if let left = resolution.left { end(.left(left), .merges(resolution.successor)) }
        guard let row = known[operation.key] else { return }
        for step in resolution.steps {
            switch step {
            case .move:
                // To one that is made in the group nobody here has come to refer.
                if case .number = row { end(row, .stays) }
            case .delete: end(row, .merges(resolution.successor))
            case .insert, .update: break
            }
        }
    }
}
