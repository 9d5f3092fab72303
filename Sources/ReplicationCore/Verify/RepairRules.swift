/// What becomes of a row of a split that differs: what its table's owners and policies say, and never a guess.
///
/// An owned column is its owner's; of shared ones `prefer`, `max` and `min` say which value stands. Which of two values is
/// the later one, how a counter should stand, and who deleted a row that either side may have made or deleted, nobody
/// can tell from the two databases: a person decides, by taking one side's.
public struct RepairRules: Sendable, Equatable {
    /// Whose value of a column stands.
    public enum ColumnRule: Sendable, Equatable {
        case side(String, because: Reason)
        /// As the servers compare; NULL loses.
        case greater, smaller
        case undecided(RepairObstacle)
    }

    public enum Reason: String, Sendable {
        case owner, prefer
        /// A person said so.
        case taken = "take"
    }

    /// What is done about a row that one side lacks.
    public enum RowRule: Sendable, Equatable {
        /// The other side gets it; with the values of its own columns, too, where a person takes the row as it is.
        case insert(isWhole: Bool)
        /// The side that has it loses it.
        case delete
        case undecided(RepairObstacle)
    }

    let ownership: TableOwnership
    let direction: VerifyDirection
    /// Whose values stand where no rule says so.
    let taken: String?

    public init(_ ownership: TableOwnership, _ direction: VerifyDirection, taking taken: String?) {
        self.ownership = ownership
        self.direction = direction
        self.taken = taken
    }

    public func column(_ name: String) -> ColumnRule {
        if ownership.match.contains(name) || name == ownership.surrogate { return .undecided(.key(name)) }
        if let owner = ownership.owner(of: name) { return .side(owner, because: .owner) }
        guard case .shared(let rule)? = ownership.columns[name] else { return .undecided(.key(name)) }
        switch rule.policy {
        case .max: return .greater
        case .min: return .smaller
        case .prefer:
            if let side = rule.side { return .side(side, because: .prefer) }
        case .lastWrite, .delta, .queue: break
        }
        return taken.map { .side($0, because: .taken) } ?? .undecided(.policy(column: name, rule.policy))
    }

    /// - Parameter holder: the side that has the row.
    public func row(on holder: VerifySide) -> RowRule {
        let (name, other) = (direction.database(holder), direction.database(holder.other))
        let isMade = ownership.insertOwners.contains(name)
        let isDeleted = ownership.deleteOwners.contains(other)
        // Where both may be true, or neither, nothing tells.
        let isInserted = isMade == isDeleted ? taken.map { $0 == name } : isMade
        guard let isInserted else { return .undecided(isMade ? .madeOrDeleted(name, other) : .neither(name, other)) }
        if ownership.isReferenced { return .undecided(.isNumbered) }
        guard isInserted else { return .delete }
        return ownership.references.isEmpty ? .insert(isWhole: taken == name) : .undecided(.refersByNumber(name))
    }

    /// Whether a new row gets the value that the other side has.
    public func brings(_ column: String, from holder: VerifySide, isWhole: Bool) -> Bool {
        isWhole
            || ownership.travels(
                column, from: direction.database(holder), to: direction.database(holder.other), backend: direction.backend)
    }

    /// What the side gives to its own columns of a row that the other one made.
    public func fills(beside columns: Set<String>) -> [(column: String, value: String)] {
        ownership.fill.sorted { $0.key < $1.key }.filter { !columns.contains($0.key) }.map { ($0.key, $0.value) }
    }
}

/// Why a difference is left to a person. Never holds values.
public enum RepairObstacle: Sendable, Equatable, CustomStringConvertible {
    case policy(column: String, SharedColumnRule.Policy)
    /// It is part of the row's identity, or nobody's.
    case key(String)
    /// Two databases: the one that has the row, and the one that lacks it.
    case madeOrDeleted(String, String)
    case neither(String, String)
    case refersByNumber(String)
    /// Others refer to rows of its table by numbers that are each side's own.
    case isNumbered
    /// A table with a row that refers to it, on the side that has it.
    case isReferredTo(by: String, on: String)
    /// Columns of the side that lacks the row, of which the other one has the only values.
    case onlyCopy([String], owner: String, holder: String)

    public var description: String {
        switch self {
        case .policy(let column, let policy): "\(column) (policy \(policy.rawValue))"
        case .key(let column): "\(column) (it identifies rows)"
        case .madeOrDeleted(let holder, let other): "the row: \(holder) may have made it, or \(other) deleted it"
        case .neither(let holder, let other): "the row: \(holder) may not make it, and \(other) may not delete it"
        case .refersByNumber(let holder): "the row: it refers to others by numbers of \(holder) alone"
        case .isNumbered: "the row: others refer to it by its number, which is each side's own"
        case .isReferredTo(let table, let holder): "the row: a row of \(table) on \(holder) refers to it"
        case .onlyCopy(let columns, let owner, let holder):
            "the row: \(columns.joined(separator: ", ")) of \(owner) would be lost, \(holder) alone still has values"
        }
    }

    /// Whether taking one side's value is an answer.
    public var isForAPerson: Bool {
        switch self {
        case .policy, .madeOrDeleted, .neither, .onlyCopy: true
        case .key, .refersByNumber, .isNumbered, .isReferredTo: false
        }
    }
}
