import ReplicationCore
import Replicator

extension CommandFailure {
    /// - Parameter database: the one that holds the conflict, where that is known: its name is part of the conflict's.
    init(conflict error: ConflictError, of database: String? = nil, place: String? = nil) {
        func name(_ id: Int64) -> String { (database.map { "\($0):" } ?? "") + "\(id)" }
        let show = "Run `lindero conflicts show"
        switch error {
        case .unknown(let id):
            self.init(
                "conflict", "There is no conflict \(name(id)) on record.", place: place, nextStep: "Run `lindero conflicts list --all`.",
                exit: .blocked)
        case .alreadyResolved(let id):
            self.init(
                "conflict", "Conflict \(name(id)) is resolved already.", place: place, nextStep: "\(show) \(name(id))`.", exit: .blocked)
        case .noSuchSide(let side, let sides):
            self.init(
                "conflict", "\(side) did not write in this conflict.", place: place,
                nextStep: "Take \(sides.joined(separator: " or ")), or give a value.", exit: .blocked)
        case .columnGone(let table, let column):
            self.init(
                "conflict", "Table \(table) has no column \"\(column)\" that can be written any more.", place: place,
                nextStep: "Write what shall stand where it is now, then mark the conflict: `lindero conflicts resolve ID --take SIDE`.",
                exit: .blocked)
        case .keyUnusable(let table):
            self.init(
                "conflict", "The columns by which the conflict names its row of \(table) are not unique any more.", place: place,
                nextStep: "Run `lindero check`.", exit: .blocked)
        case .notWritable(let table, let column):
            self.init(
                "conflict", "Column \"\(column)\" of \(table) is neither shared nor this database's own any more.", place: place,
                nextStep: "Write it in its owner's database; then take what stands there.", exit: .blocked)
        case .rowGone(let id):
            self.init(
                "conflict", "The row of conflict \(name(id)) is not there any more.", place: place,
                nextStep: "If that is right, `lindero conflicts resolve \(name(id)) --force` with the same choice only marks it.",
                exit: .blocked)
        case .valueMoved(let id):
            self.init(
                "conflict", "The row holds another value by now than conflict \(name(id)) kept: somebody has written it since.",
                place: place,
                nextStep: "\(show) \(name(id)) --show-values` and look at the row; --force overwrites it.", exit: .blocked)
        case .wholeRow(let id, let winner):
            self.init(
                "conflict", "Conflict \(name(id)) is about a whole row, which no single value can mend.", place: place,
                nextStep: "Write the row as it shall be, then `lindero conflicts resolve \(name(id)) --take \(winner)` marks it.",
                exit: .blocked)
        case .refused(let id, let reason):
            self.init(
                "conflict", "The server does not take the value for conflict \(name(id)): \(reason). Nothing was changed.",
                place: place, nextStep: "\(show) \(name(id)) --show-values`, then give another value.")
        }
    }
}
