@testable import ReplicationCore

/// A database of the reference simulation: committed rows, locks, a log, and what the incoming direction keeps in it.
///
/// Beside its columns each row has what nobody but the simulation sees: which row of the world it is, and which one the
/// writer of its reference meant.
struct ReferenceDatabase {
    struct Row: Equatable {
        var number: Int
        var identity: Int
        var reference: Int?
        var meant: Int?
    }

    struct Rows {
        private(set) var tables: [[Int: Row]]

        init(tableCount: Int) { tables = Array(repeating: [:], count: tableCount) }

        subscript(place: ReferencePlace) -> Row? {
            get { tables[place.table][place.key] }
            set { tables[place.table][place.key] = newValue }
        }

        /// The row that has a number.
        func place(of number: Int?, in table: Int) -> ReferencePlace? {
            guard let number else { return nil }
            return tables[table].first { $0.value.number == number }.map { ReferencePlace(table, $0.key) }
        }

        /// The rows that refer to a number, in order.
        func places(referringTo number: Int, in table: Int) -> [ReferencePlace] {
            tables[table].filter { $0.value.reference == number }.keys.sorted().map { ReferencePlace(table, $0) }
        }
    }

    struct Change {
        /// As the stream has it.
        var logged: SimulatedChange
        /// Of the new row.
        var row: Row?
        /// What it ends, or changes.
        var former: Row?
        var table: Int { logged.relation }

        /// Whether others who hold the row's key alone are in its way: it ends the row, or takes its key or its number.
        var endsKey: Bool {
            guard let old = logged.old else { return false }
            return logged.new.map { $0[0] != old[0] || $0[1] != old[1] } ?? true
        }
    }

    /// Rows that somebody has written, and those that a row in an open transaction refers to.
    struct OpenTransaction {
        var rows: Rows
        var changes: [Change] = []
        var written: Set<ReferencePlace> = []
        var referred: Set<ReferencePlace> = []
    }

    var rows: Rows
    private(set) var log: [SimulatedTransaction] = []
    private(set) var endLSN = LSN(100)
    /// New rows, by operation.
    private var logged: [OperationID: Row] = [:]
    /// What was there before, by operation.
    private var former: [OperationID: Row] = [:]
    var clock: Int64 = 0
    var nextNumber: Int
    /// Numbers that rows have given up, by table.
    var freed: [[Int]]
    var writer: OpenTransaction?
    /// Rows that the applier holds, and others that it keeps where they are.
    var held: Set<ReferencePlace> = []
    var kept: Set<ReferencePlace> = []
    // Durable, and written by the incoming direction with its data.
    var incoming = SplitProgress()
    var confirmedLSN = LSN.zero

    init(tableCount: Int, clock: Int64, nextNumber: Int) {
        (self.clock, self.nextNumber) = (clock, nextNumber)
        rows = Rows(tableCount: tableCount)
        freed = Array(repeating: [], count: tableCount)
    }

    /// An operation's new row.
    func row(of id: OperationID) -> Row? { logged[id] }

    /// The row that an operation has ended, or changed.
    func formerRow(of id: OperationID) -> Row? { former[id] }

    mutating func append(
        _ changes: [Change], commitTime: Int64, origin: String?, notes: [(position: Int, note: [SplitNote])]
    ) -> LSN {
        let commitLSN = LSN(endLSN.rawValue + 4)
        endLSN = LSN(endLSN.rawValue + 10)
        if changes.isEmpty, notes.isEmpty { return commitLSN }
        for (position, change) in changes.enumerated() {
            let id = OperationID(commitLSN: commitLSN, position: position)
            (logged[id], former[id]) = (change.row, change.former)
        }
        log.append(
            SimulatedTransaction(
                commitLSN: commitLSN, endLSN: endLSN, commitTime: commitTime, origin: origin,
                notes: notes.map { SplitNote.encode($0.note) }, notePositions: notes.map(\.position),
                changes: changes.map(\.logged)))
        return commitLSN
    }
}

/// Changes of rows, as a database makes and logs them.
struct ReferenceEdit {
    var rows: ReferenceDatabase.Rows
    var changes: [ReferenceDatabase.Change] = []

    mutating func insert(_ place: ReferencePlace, _ row: ReferenceDatabase.Row) {
        rows[place] = row
        log(.insert, place.table, nil, (place.key, row))
    }

    mutating func delete(_ place: ReferencePlace) {
        guard let old = rows[place] else { return }
        rows[place] = nil
        log(.delete, place.table, (place.key, old), nil)
    }

    /// - Parameters:
    ///   - key: another one.
    ///   - change: what else becomes of the row.
    mutating func update(_ place: ReferencePlace, to key: Int? = nil, _ change: (inout ReferenceDatabase.Row) -> Void = { _ in }) {
        guard let old = rows[place] else { return }
        var row = old
        change(&row)
        rows[place] = nil
        rows[ReferencePlace(place.table, key ?? place.key)] = row
        log(.update, place.table, (place.key, old), (key ?? place.key, row))
    }

    private mutating func log(
        _ kind: Change.Kind, _ table: Int, _ old: (key: Int, row: ReferenceDatabase.Row)?, _ new: (key: Int, row: ReferenceDatabase.Row)?
    ) {
        let values = [old, new].map { side in side.map { [$0.key, $0.row.number, $0.row.reference] as SimulatedRow.Values } }
        changes.append(.init(logged: SimulatedChange(kind: kind, relation: table, old: values[0], new: values[1]), row: new?.row, former: old?.row))
    }
}
