import PostgresClient
import ReplicationCore

/// How a table of the split is written on the side that its changes go to.
struct SplitTarget: Sendable {
    struct Column: Sendable {
        var name: String
        /// The type under all domains.
        var typeOID: UInt32
    }

    struct Fill: Sendable {
        var name: String
        var value: String
        var typeOID: UInt32
    }

    let table: SplitTable
    /// Of `table.columns`, in the same order.
    let columns: [Column]
    /// The match columns, as indexes into `columns`, in the order of `match`.
    let key: [Int]
    /// What the side gives to its own columns in rows that come from the other.
    let fills: [Fill]
    /// Columns that hold other tables' own keys, by index into `columns`.
    let references: [Int: SplitReference]
    /// The table's own key, where others hold it.
    let number: String?
    /// The table in SQL, without those that inherit from it: a change of it must not reach them.
    let only: String

    /// - Parameter source: asked for where the table has references.
    /// - Throws: `SchemaMismatch` when the side lacks the table or a column, or refuses its updates.
    init(
        _ table: SplitTable, target: TableDescription?, source: TableDescription?, policy: OwnershipPolicy?
    ) throws(SchemaMismatch) {
        guard let target else { throw SchemaMismatch(table: table.name, problems: [.missingTable]) }
        var columns: [Column] = []
        var problems: [SchemaMismatch.Problem] = []
        for column in table.columns {
            guard let found = target.column(column.name) else {
                problems.append(.missingColumn(column.name))
                continue
            }
            let match = policy?.tables[table.name]?.match ?? []
            if target.refusesUpdates(of: column.name, key: match) { problems.append(.identityAlways(column.name)) }
            columns.append(Column(name: column.name, typeOID: found.baseTypeOID))
        }
        guard problems.isEmpty else { throw SchemaMismatch(table: table.name, problems: problems) }
        self.table = table
        self.columns = columns
        only = target.only
        key = table.keyIndexes.compactMap { index in table.columns.firstIndex { $0.sourceIndex == index } }
        var references: [Int: SplitReference] = [:]
        for (column, referenced) in table.references {
            let isRequired = target.column(columns[column].name)?.isNotNull ?? false
            let typeOID = source?.column(columns[column].name)?.baseTypeOID ?? 0
            references[column] = policy.flatMap { SplitReference(to: referenced, isRequired: isRequired, typeOID: typeOID, policy: $0) }
        }
        self.references = references
        let ownership = policy?.tables[table.name]
        number = table.isReferenced ? ownership?.surrogate : nil
        let arriving = Set(columns.map(\.name))
        fills = (ownership?.fill ?? [:]).sorted { $0.key < $1.key }.compactMap { name, value in
            guard !arriving.contains(name), let column = target.column(name) else { return nil }
            return Fill(name: name, value: value, typeOID: column.baseTypeOID)
        }
    }

    var sql: String { table.name.sql }
    func name(_ column: Int) -> String { SQLText.identifier(columns[column].name) }

    /// An operation's new value of a column; `nil` is NULL.
    func bytes(_ column: Int, _ operation: RowOperation, _ arena: ChangeArena) -> [UInt8]? {
        let cell = arena.cells[operation.newCell(column, table: table, arena: arena)]
        guard cell.hasValue else { return nil }
        return Array(arena.bytes[cell.range])
    }

    /// An operation with all that the stream tells of its row; `nil` where that is too little for one.
    func whole(_ operation: RowOperation, _ arena: ChangeArena) -> RowOperation? {
        var whole = operation
        if operation.kind == .delete { whole.new = operation.old }
        whole.columns = table.valueColumns.filter {
            arena.cells[whole.newCell($0, table: table, arena: arena)].kind != .unchanged
        }
        let isTold = references.allSatisfy { column, reference in !reference.isRequired || bytes(column, whole, arena) != nil }
        return isTold ? whole : nil
    }

    var keyList: String { key.map(name).joined(separator: ", ") }
}

/// A statement under construction: its text and its parameters.
struct SplitStatement: Sendable {
    private(set) var types: [UInt32] = []
    private(set) var parameters: [PostgresParameter] = []
    var sql: String

    init(_ sql: String = "") { self.sql = sql }

    /// Adds a parameter; its place in the text.
    mutating func add(_ parameter: PostgresParameter, _ type: UInt32) -> String {
        parameters.append(parameter)
        types.append(type)
        return "$\(parameters.count)"
    }

    /// The same parameters in another text.
    func with(sql: String) -> SplitStatement {
        var statement = self
        statement.sql = sql
        return statement
    }

    mutating func text(_ value: String?) -> String { add(value.map { .text($0) } ?? .null, OID.text) }
    mutating func lsn(_ value: LSN?) -> String { add(value.map { .binary(bigEndian($0.rawValue)) } ?? .null, OID.pgLSN) }
    mutating func number(_ value: Int64?) -> String {
        add(value.map { .binary(bigEndian(UInt64(bitPattern: $0))) } ?? .null, OID.bigint)
    }
    mutating func time(_ value: PostgresTime?) -> String {
        add(value.map { .binary(bigEndian(UInt64(bitPattern: $0.microseconds))) } ?? .null, OID.timestamptz)
    }
}

/// The statements that lock rows of one side and carry out what was decided about them.
///
/// A class, since it is looked up for every operation.
final class SplitStatements: Sendable {
    let target: SplitTarget
    /// What the table was when the statements were made for it.
    let shape: TargetShape?
    /// Whether the streams carry values in binary form.
    private let isBinary: Bool
    /// Of the direction: names of both databases.
    let settings: DirectionSettings
    /// Counters, which call for statements of their own.
    private let counters: Set<Int>

    init(target: SplitTarget, shape: TargetShape?, isBinary: Bool, settings: DirectionSettings) {
        self.target = target
        self.shape = shape
        self.isBinary = isBinary
        self.settings = settings
        counters = PlainChanges.counters(of: target.table)
    }

    /// Whether an operation may go in a statement for many rows.
    func allowsBulk(_ operation: RowOperation) -> Bool {
        if !target.table.references.isEmpty { return false }
        return switch operation.kind {
        case .insert: target.fills.isEmpty
        case .update: counters.isEmpty || counters.isDisjoint(with: operation.columns)
        // What becomes of rows that refer to it is decided with it.
        case .delete: !target.table.isReferenced
        case .echo: true
        case .move: false
        }
    }

    // MARK: locks

    /// Locks a row against every write but this transaction's; one row, if it is there, with the number that others know
    /// it by.
    func lock(_ key: RowKey) -> SplitStatement {
        var statement = SplitStatement()
        statement.sql = "SELECT \(target.number.map(SQLText.identifier) ?? "1") FROM \(target.only) WHERE \(condition(key, &statement)) FOR NO KEY UPDATE"
        return statement
    }

    /// Brings a row, if none with its key is there: its entry in the unique index keeps others away.
    ///
    /// Where the row that it refers to is not there yet, it holds the source's number until it becomes real.
    func bring(
        _ key: RowKey, _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment
    ) -> SplitStatement {
        var statement = insert(key, operation.columns, operation, arena, references, isBrought: true)
        statement.sql += " ON CONFLICT (\(target.keyList)) DO NOTHING"
        return statement
    }

    // MARK: steps

    func step(
        _ step: RowStep, _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment
    ) -> SplitStatement {
        switch step {
        case .insert(let key, let writes):
            return insert(key, writes.map(\.column), operation, arena, references)
        case .update(let key, let writes):
            var statement = SplitStatement()
            let assignments = assignments(writes, of: key, operation, arena, references, &statement)
            statement.sql = "UPDATE \(target.only) SET \(assignments) WHERE \(condition(key, &statement))"
            return statement
        case .delete(let key):
            return delete(key)
        case .move(let key, let newKey, let writes):
            var statement = SplitStatement()
            var assignments = zip(target.key, newKey.values).map { column, value in
                "\(target.name(column)) = \(statement.add(parameter(value), target.columns[column].typeOID))"
            }
            if !writes.isEmpty { assignments.append(self.assignments(writes, of: newKey, operation, arena, references, &statement)) }
            statement.sql =
                "UPDATE \(target.only) SET \(assignments.joined(separator: ", ")) WHERE \(condition(key, &statement))"
            return statement
        }
    }

    /// What a row that was just made refers to, where that is the row itself; `nil` where it is not.
    func ownReferences(
        of key: RowKey, _ writes: [ColumnWrite], _ operation: RowOperation, _ arena: ChangeArena,
        _ references: SplitReferences.Moment
    ) -> SplitStatement? {
        let own = writes.filter { refersToItself($0.column, key, operation, arena, references) }
        return own.isEmpty ? nil : step(.update(key, own), operation, arena, references)
    }

    func delete(_ key: RowKey) -> SplitStatement {
        var statement = SplitStatement()
        statement.sql = "DELETE FROM \(target.only) WHERE \(condition(key, &statement))"
        return statement
    }

    private func insert(
        _ key: RowKey, _ columns: [Int], _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment,
        isBrought: Bool = false
    ) -> SplitStatement {
        var statement = SplitStatement()
        var names = target.key.map(target.name)
        var values = zip(target.key, key.values).map { statement.add(parameter($1), target.columns[$0].typeOID) }
        for column in columns {
            names.append(target.name(column))
            // Not before it is there.
            if refersToItself(column, key, operation, arena, references) {
                values.append("NULL")
                continue
            }
            let value = newValue(column, operation, arena, references, &statement)
            if isBrought, target.references[column] != nil {
                values.append("coalesce(\(value), \(sent(column, operation, arena, &statement)))")
            } else {
                values.append(value)
            }
        }
        for fill in target.fills {
            names.append(SQLText.identifier(fill.name))
            values.append(statement.add(.text(fill.value), fill.typeOID))
        }
        statement.sql =
            "INSERT INTO \(target.sql) (\(names.joined(separator: ", "))) OVERRIDING SYSTEM VALUE "
            + "VALUES (\(values.joined(separator: ", ")))"
        return statement
    }

    /// - Parameter key: that the row has afterwards.
    private func assignments(
        _ writes: [ColumnWrite], of key: RowKey, _ operation: RowOperation, _ arena: ChangeArena,
        _ references: SplitReferences.Moment, _ statement: inout SplitStatement
    ) -> String {
        var assignments: [String] = []
        for write in writes {
            let name = target.name(write.column)
            let type = target.columns[write.column].typeOID
            let value: String
            switch write.value {
            case .remote where refersToItself(write.column, key, operation, arena, references):
                value = target.number.map(SQLText.identifier) ?? "NULL"
            case .remote:
                value = newValue(write.column, operation, arena, references, &statement)
            case .sum:
                let new = newValue(write.column, operation, arena, references, &statement)
                let old = operation.oldCell(write.column, table: target.table).map { arena.parameter($0) } ?? .null
                // The number is the same whatever the order in which differences arrive; NULL counts as 0. In numeric, where
                // no sum on the way is out of range; and in the form of the new value where nobody else has counted.
                let less = statement.add(old, type)
                value =
                    "CASE WHEN \(name)::text IS NOT DISTINCT FROM \(less)::text THEN coalesce(\(new), 0) "
                    + "ELSE coalesce(\(name), 0)::pg_catalog.numeric + coalesce(\(new), 0) - coalesce(\(less), 0) END"
            case .local(let bytes):
                value = statement.add(parameter(bytes), type)
            case .greatest(let bytes):
                let remote = newValue(write.column, operation, arena, references, &statement)
                value = compared("GREATEST", remote, statement.add(parameter(bytes), type), type)
            case .least(let bytes):
                let remote = newValue(write.column, operation, arena, references, &statement)
                value = compared("LEAST", remote, statement.add(parameter(bytes), type), type)
            }
            assignments.append("\(name) = \(value)")
        }
        return assignments.joined(separator: ", ")
    }

    /// The same value on both sides: of equal ones, which may differ in form (10.0 and 10.00), the first stays, and texts are
    /// compared by their bytes, since the databases' collations may differ.
    private func compared(_ function: String, _ remote: String, _ local: String, _ type: UInt32) -> String {
        let (first, second) = settings.sourceName > settings.targetName ? (remote, local) : (local, remote)
        let collation = VerifyTable.textOIDs.contains(type) ? " COLLATE \"C\"" : ""
        return "\(function)(\(first)\(collation), \(second))"
    }

    // MARK: conflicts

    /// Records a loser, after the steps that made it one; nothing when the row holds the same value.
    func record(
        _ conflict: ConflictRecord, _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment
    ) -> SplitStatement {
        var statement = SplitStatement()
        let column = conflict.column.map { target.columns[$0].name }
        let keyPairs = zip(target.key, conflict.key.values).map { index, value in
            "\(SQLText.literal(target.columns[index].name)), (\(statement.add(parameter(value), target.columns[index].typeOID)))::text"
        }.joined(separator: ", ")
        let lost = conflict.column.map { "(\(newValue($0, operation, arena, references, &statement)))::text" } ?? "NULL"
        let kept = column.map { "t.\(SQLText.identifier($0))::text" } ?? "NULL"
        let (direction, winner, loser) = (statement.text(settings.name), statement.text(settings.targetName), statement.text(settings.sourceName))
        let (local, remote) = (conflict.local, conflict.remote)
        let columns = [
            ("direction", direction), ("schema_name", statement.text(target.table.name.schema)),
            ("table_name", statement.text(target.table.name.name)), ("row_key", "pg_catalog.jsonb_build_object(\(keyPairs))"),
            ("column_name", statement.text(column)), ("kind", statement.text(conflict.kind.rawValue)),
            ("policy", statement.text(conflict.decision.word)), ("winner", winner), ("loser", loser),
            ("kept_value", kept), ("lost_value", lost),
            ("kept_at", statement.time(local?.commitTime)), ("lost_at", statement.time(remote.commitTime)),
            ("kept_version", statement.number(local?.effectiveTime.microseconds)),
            ("lost_version", statement.number(remote.effectiveTime.microseconds)),
            ("kept_lsn", statement.lsn(local?.id.commitLSN)), ("lost_lsn", statement.lsn(remote.id.commitLSN)),
            ("lost_position", statement.number(Int64(remote.id.position))),
            ("state", statement.text(conflict.isOpen ? "open" : "settled")),
        ]
        let found = condition(conflict.key, &statement, prefix: "t.")
        let isDistinct = conflict.isRecordedOnlyIfDistinct ? " WHERE \(kept) IS DISTINCT FROM \(lost)" : ""
        statement.sql =
            "INSERT INTO lindero.conflict (\(columns.map(\.0).joined(separator: ", "))) "
            + "SELECT \(columns.map(\.1).joined(separator: ", ")) FROM (SELECT 1) AS one "
            + "LEFT JOIN \(target.only) AS t ON \(found)\(isDistinct) ON CONFLICT DO NOTHING"
        return statement
    }

    // MARK: values

    private func condition(_ key: RowKey, _ statement: inout SplitStatement, prefix: String = "") -> String {
        var terms: [String] = []
        for (column, value) in zip(target.key, key.values) {
            terms.append("\(prefix)\(target.name(column)) = \(statement.add(parameter(value), target.columns[column].typeOID))")
        }
        return terms.joined(separator: " AND ")
    }

    /// The operation's value as the target has to write it: of a row that it refers to, the number that this has here.
    private func newValue(
        _ column: Int, _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment,
        _ statement: inout SplitStatement
    ) -> String {
        guard let reference = target.references[column] else { return sent(column, operation, arena, &statement) }
        let key = target.bytes(column, operation, arena).flatMap { references.key(of: $0, reference, in: operation) }
        return key.map { reference.number($0, isBinary: isBinary, &statement) }
            ?? statement.add(.null, target.columns[column].typeOID)
    }

    /// Whether what a column refers to is the row itself, which is not found by a key that it gets now.
    private func refersToItself(
        _ column: Int, _ key: RowKey, _ operation: RowOperation, _ arena: ChangeArena, _ references: SplitReferences.Moment
    ) -> Bool {
        guard let reference = target.references[column], reference.tableID == key.table else { return false }
        return target.bytes(column, operation, arena).flatMap { references.key(of: $0, reference, in: operation) } == key
    }

    private func sent(
        _ column: Int, _ operation: RowOperation, _ arena: ChangeArena, _ statement: inout SplitStatement
    ) -> String {
        statement.add(
            arena.parameter(operation.newCell(column, table: target.table, arena: arena)), target.columns[column].typeOID)
    }

    private func parameter(_ value: [UInt8]?) -> PostgresParameter { Self.parameter(value, isBinary: isBinary) }

    static func parameter(_ value: [UInt8]?, isBinary: Bool) -> PostgresParameter {
        guard let value else { return .null }
        return isBinary ? .binary(value) : .textBytes(value)
    }
}

extension ConflictRecord.Decision {
    /// As `lindero.conflict` names it.
    var word: String {
        switch self {
        case .policy(let policy): policy.rawValue
        case .rowEnded: "row_ended"
        case .rowMissing: "row_missing"
        }
    }
}
