/// Everything in a configuration that does not fit the database's tables.
public struct OwnershipError: Error, Sendable, Equatable, CustomStringConvertible {
    public var problems: [OwnershipProblem]

    public init(problems: [OwnershipProblem]) { self.problems = problems }

    public var description: String {
        problems.map { problem in
            let place = problem.mark.map { "line \($0.line): " } ?? ""
            let hint = problem.suggestion.map { " (did you mean \"\($0)\"?)" } ?? ""
            return place + problem.message + hint
        }.joined(separator: "\n")
    }
}

/// One thing in a configuration that does not fit the database's tables.
public struct OwnershipProblem: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// An exact name that the database lacks.
        case unknownTable(String)
        /// A pattern that stands for no table.
        case patternMatchesNothing(String)
        /// A partition was named; partitions follow their root.
        case partition(QualifiedName)
        /// A column that the table lacks, and the key of the file that names it.
        case unknownColumn(String, table: QualifiedName, use: String)
        /// Columns that nobody owns, under `unlisted_column: error`.
        case unowned([String], table: QualifiedName)
        /// `match` is not the primary key and no unique index has these columns.
        case matchIsNotUnique([String], table: QualifiedName, keys: [[String]])
        /// PostgreSQL computes the column, so nobody can match by it or share it.
        case generatedColumn(String, table: QualifiedName, use: String)
        /// `delta` adds exact numbers; the column has another type.
        case deltaNeedsNumber(String, table: QualifiedName, type: String)
        /// `max` and `min` compare; the column's type has no order.
        case policyNeedsOrder(String, table: QualifiedName, type: String)
        /// A value for a column that travels anyway, with the row or as its identity.
        case fillOfTravellingColumn(String, table: QualifiedName)
        /// Its values differ between the databases, so that it identifies nothing.
        case referenceInMatch(String, table: QualifiedName)
        /// `references` names a table that no rule covers.
        case unknownReference(String, column: String, table: QualifiedName)
        /// Rows of the referenced table can't be told by one number, or that number is the same on both sides.
        case referenceWithoutSurrogate(QualifiedName, column: String, table: QualifiedName, primaryKey: [String], match: [String])
        /// `split` was asked for without saying who owns what.
        case splitWithoutTables
    }

    public var kind: Kind
    /// Where the file says so.
    public var mark: SourceMark?
    /// The nearest name that exists.
    public var suggestion: String?

    public init(_ kind: Kind, mark: SourceMark? = nil, suggestion: String? = nil) {
        self.kind = kind
        self.mark = mark
        self.suggestion = suggestion
    }

    public var message: String {
        switch kind {
        case .unknownTable(let name):
            return "the database has no table \"\(name)\""
        case .patternMatchesNothing(let pattern):
            return "no table matches \"\(pattern)\""
        case .partition(let table):
            return "\"\(table)\" is a partition and follows its partitioned table; list that one instead"
        case .unknownColumn(let column, let table, let use):
            return "\(use): table \"\(table)\" has no column \"\(column)\""
        case .unowned(let columns, let table):
            let names = columns.map { "\"\($0)\"" }.joined(separator: ", ")
            return
                "nobody owns \(names) of table \"\(table)\": list each under columns, give one owner \"*\", or "
                + "set defaults: { unlisted_column: origin }"
        case .matchIsNotUnique(let columns, let table, let keys):
            let choice = keys.map { "[\($0.joined(separator: ", "))]" }.joined(separator: " or ")
            let found = keys.isEmpty ? "the table has no unique key" : "unique here: \(choice)"
            return
                "match: [\(columns.joined(separator: ", "))] does not identify a row of \"\(table)\" (\(found)); "
                + "to use it, run CREATE UNIQUE INDEX ON \(table.sql) (\(SQLText.list(columns)));"
        case .generatedColumn(let column, let table, let use):
            return
                "\(use): PostgreSQL computes column \"\(column)\" of table \"\(table)\", so it can't be used here"
        case .deltaNeedsNumber(let column, let table, let type):
            return
                "policy delta adds exact numbers (smallint, integer, bigint, numeric), and column \"\(column)\" of table "
                + "\"\(table)\" is \(type)"
        case .policyNeedsOrder(let column, let table, let type):
            return
                "policies max and min compare values, and those of column \"\(column)\" of table \"\(table)\" have no order (\(type)): "
                + "take last_write, prefer or queue"
        case .fillOfTravellingColumn(let column, let table):
            return
                "fill: column \"\(column)\" of table \"\(table)\" comes with every row from the other side, so there is "
                + "nothing to fill"
        case .referenceInMatch(let column, let table):
            return
                "references: column \"\(column)\" is in match of table \"\(table)\", and a key that is another value on the other "
                + "side identifies nothing there"
        case .unknownReference(let name, let column, let table):
            return
                "references: column \"\(column)\" of table \"\(table)\" refers to \"\(name)\", which is no table under "
                + "tables:"
        case .referenceWithoutSurrogate(let other, let column, let table, let primaryKey, let match):
            let start = "references: column \"\(column)\" of table \"\(table)\" "
            if primaryKey.count != 1 {
                return start + "can't hold the key of \"\(other)\", whose primary key is [\(primaryKey.joined(separator: ", "))]"
            }
            return
                start + "means the same row of \"\(other)\" on both sides (match: [\(match.joined(separator: ", "))] is its "
                + "primary key); leave it out"
        case .splitWithoutTables:
            return
                "backend split needs tables: with the owner of every column; run lindero init --from-database"
        }
    }
}
