/// A record that was not applied. Never holds a value of the record.
public struct UpsertRefusal: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Reason: Sendable, Equatable {
        /// Not one JSON object, or not CSV.
        case malformed(String)
        case unknownColumn(nearest: String?)
        case foreignColumn(owner: String, side: String)
        /// PostgreSQL computes the column.
        case generatedColumn
        /// PostgreSQL numbers the column, and takes no other value for an existing row.
        case identityColumn
        case missingKey
        /// The row does not exist, and the side does not create rows of this table.
        case mayNotInsert(side: String, table: String, owners: [String])
        /// The row does not exist, and a new one needs this column, which has no default.
        case incompleteInsert(owner: String?)
        /// The row is another's by a policy, or would be.
        case rowSecurity
        /// PostgreSQL refused the value or the row: the condition's name, and the constraint if there is one.
        case database(condition: String, constraint: String?)
    }

    /// Where the record begins, 1-based.
    public var lineNumber: Int
    /// The column concerned, if it is known.
    public var column: String?
    public var reason: Reason

    public init(lineNumber: Int, column: String? = nil, reason: Reason) {
        self.lineNumber = lineNumber
        self.column = column
        self.reason = reason
    }

    public var description: String { "line \(lineNumber): \(explanation)" }

    /// The reason in words, without the line number.
    public var explanation: String {
        let name = column.map { "column \"\($0)\"" } ?? "the record"
        switch reason {
        case .malformed(let what): return what
        case .unknownColumn(let nearest):
            return "\(name) does not exist" + (nearest.map { " (did you mean \"\($0)\"?)" } ?? "")
        case .foreignColumn(let owner, let side): return "\(name) is owned by \(owner), not by \(side)"
        case .generatedColumn: return "\(name) is computed by PostgreSQL"
        case .identityColumn: return "\(name) is GENERATED ALWAYS AS IDENTITY: PostgreSQL numbers it"
        case .rowSecurity: return "row-level security does not let this role write the row"
        case .missingKey: return "\(name) is part of the match key and must be given, not null"
        case .mayNotInsert(let side, let table, let owners):
            let who = owners.isEmpty ? "nobody may" : "\(owners.joined(separator: " or ")) may"
            return "the row does not exist, and \(side) may not insert into \"\(table)\" (\(who))"
        case .incompleteInsert(let owner):
            let whose = owner.map { " (owned by \($0))" } ?? ""
            return "the row does not exist, and a new one needs \(name)\(whose), which has no default"
        case .database(let condition, let constraint):
            let what = constraint.map { "\(condition), constraint \"\($0)\"" } ?? condition
            return column == nil ? what : "\(name): \(what)"
        }
    }
}
