import ReplicationCore

/// A column of a split table that holds another table's own key, and how that table's rows are found.
struct SplitReference: Sendable {
    let table: QualifiedName
    /// `SplitTable.id` of it.
    let tableID: Int
    /// Its key, which is another value on the other side, and the columns that are not.
    let number: String
    let match: [String]
    /// Whether the column that refers to it may not be empty on the target.
    let isRequired: Bool
    /// Of that column on the source, as it is by now: what is on its way may have had another, and is text then.
    private let typeOID: UInt32

    init?(to table: QualifiedName, isRequired: Bool = false, typeOID: UInt32 = 0, policy: OwnershipPolicy) {
        guard let ownership = policy.tables[table], let number = ownership.surrogate,
            let id = policy.tables.keys.sorted().firstIndex(of: table)
        else { return nil }
        self.table = table
        tableID = id
        self.number = number
        match = ownership.match
        self.isRequired = isRequired
        self.typeOID = typeOID
    }

    /// Asks the source for the identity of a row by its number there, and for the number as its own table has it.
    func ask(for number: [UInt8], isBinary: Bool) -> SplitStatement {
        var statement = SplitStatement()
        let given = statement.add(SplitStatements.parameter(number, isBinary: isBinary), typeOID)
        let columns = (match + [self.number]).map(SQLText.identifier).joined(separator: ", ")
        statement.sql = "SELECT \(columns) FROM \(table.sql) WHERE \(SQLText.identifier(self.number)) = \(given)"
        return statement
    }

    /// The row on the target, kept from being deleted.
    func hold(_ key: RowKey, isBinary: Bool) -> SplitStatement {
        var statement = SplitStatement()
        statement.sql = "SELECT 1 FROM \(table.sql) AS r WHERE \(condition(key, isBinary, &statement)) FOR KEY SHARE"
        return statement
    }

    /// The number that the row has on the target, kept from being deleted, or from being changed at all.
    func find(_ key: RowKey, isBinary: Bool, lock: String) -> SplitStatement {
        var statement = SplitStatement()
        statement.sql =
            "SELECT r.\(SQLText.identifier(number)) FROM \(table.sql) AS r WHERE \(condition(key, isBinary, &statement)) \(lock)"
        return statement
    }

    /// A number of the target's stream, as text, which the column's type of today takes as well.
    static func text(of number: LocalHistory.Number, isBinary: Bool) -> SplitStatement {
        var statement = SplitStatement()
        let given = statement.add(SplitStatements.parameter(number.bytes, isBinary: isBinary), number.typeOID)
        statement.sql = "SELECT CAST(\(given) AS text)"
        return statement
    }

    /// Whether no row on the target has a number.
    fileprivate func isUnused(_ number: String) -> String {
        "NOT EXISTS (SELECT FROM \(table.sql) AS r WHERE r.\(SQLText.identifier(self.number)) = \(number))"
    }

    /// The number that the row has on the target; NULL when it is not there.
    func number(_ key: RowKey, isBinary: Bool, _ statement: inout SplitStatement) -> String {
        "(SELECT r.\(SQLText.identifier(number)) FROM \(table.sql) AS r WHERE \(condition(key, isBinary, &statement)))"
    }

    private func condition(_ key: RowKey, _ isBinary: Bool, _ statement: inout SplitStatement) -> String {
        zip(match, key.values).map { column, value in
            let parameter = statement.add(SplitStatements.parameter(value, isBinary: isBinary), 0)
            return "r.\(SQLText.identifier(column)) = \(parameter)"
        }.joined(separator: " AND ")
    }
}

/// What becomes of rows that refer to one that is gone.
struct SplitReferrers: Sendable {
    let policy: OwnershipPolicy

    /// What is done about a column's references to a row, but for those of which each is looked at. `$1`: the number that the
    /// row had on the target; `$2`: the one that they are to have.
    func statements(_ settlement: EndedRow.Settlement, _ column: Column, to reference: SplitReference) -> [String] {
        switch settlement {
        case .leave, .tellAgain: []
        case .move: [column.write("$2", where: "= $1")]
        case .moveUnused: [column.write("$2", where: "= $1 AND \(reference.isUnused("$1"))")]
        case .tellAll: [column.repetition]
        case .end: consequences(in: column, numbers: "$1", path: [])
        }
    }

    /// Carries out `on_delete`, in order.
    private func consequences(in column: Column, numbers: String, path: Set<QualifiedName>) -> [String] {
        let referrer = column.referrer
        switch referrer.onDelete {
        case .keep:
            return []
        case .nullify:
            return [column.write("NULL", where: "IN (\(numbers))")]
        case .delete:
            var steps: [String] = []
            let rows = "\(column.sql) IN (\(numbers))"
            if let own = referrer.surrogate, referrer.isReferenced, !path.contains(referrer.table) {
                // Those that refer to these go first: afterwards nobody knows them any more.
                let gone = "SELECT \(SQLText.identifier(own)) FROM \(referrer.table.sql) WHERE \(rows)"
                steps = columns(to: referrer.table).flatMap {
                    consequences(in: $0, numbers: gone, path: path.union([referrer.table]))
                }
            }
            return steps + ["DELETE FROM \(referrer.table.sql) WHERE \(rows)"]
        }
    }

    /// A column that holds a table's numbers.
    struct Column: Sendable {
        var referrer: TableOwnership
        var name: String
        fileprivate var sql: String { SQLText.identifier(name) }

        /// Whose services write it, in a direction.
        func writer(from source: String, to target: String) -> EndedRow.Writer {
            let comes = referrer.travels(name, from: source, to: target, backend: .split)
            let leaves = referrer.travels(name, from: target, to: source, backend: .split)
            return comes == leaves ? .both : comes ? .source : .target
        }

        fileprivate func write(_ value: String, where condition: String) -> String {
            "UPDATE \(referrer.table.sql) SET \(sql) = \(value) WHERE \(sql) \(condition)"
        }

        /// Says once more what rows refer to (`SplitNote.consequences`). `$1`: the number.
        var repetition: String { write(sql, where: "= $1") }

        /// The rows that hold a number, by their match columns. `$1`: the number.
        var rows: String {
            let match = referrer.match.map(SQLText.identifier).joined(separator: ", ")
            return "SELECT \(match) FROM \(referrer.table.sql) WHERE \(sql) = $1"
        }

        /// The same as `repetition` for one row.
        func repetition(of key: RowKey, number: String, isBinary: Bool) -> SplitStatement {
            var statement = SplitStatement()
            _ = statement.add(.text(number), 0)
            let row = zip(referrer.match, key.values).map { column, value in
                "\(SQLText.identifier(column)) = \(statement.add(SplitStatements.parameter(value, isBinary: isBinary), 0))"
            }
            statement.sql = ([repetition] + row).joined(separator: " AND ")
            return statement
        }
    }

    func columns(to table: QualifiedName) -> [Column] {
        policy.tables.values.sorted { $0.table < $1.table }.flatMap { ownership in
            ownership.references.filter { $0.value == table }.keys.sorted().map { Column(referrer: ownership, name: $0) }
        }
    }
}
