import PostgresClient
import ReplicationCore

/// What a person wants to stand.
public enum ConflictChoice: Sendable, Equatable {
    /// The value of this database, by its name in lindero.yaml.
    case side(String)
    /// A value of their own in text form; `nil` for NULL.
    case value(String?)
}

/// What became of the row of a conflict that was resolved.
public enum ConflictOutcome: Sendable, Equatable {
    case written
    /// It holds what was chosen.
    case stands
    /// It is not there, which `force` passes over: there was nothing to write.
    case rowGone
}

/// Why a conflict was not resolved. Never holds values.
public enum ConflictError: Error, Sendable, Equatable {
    case unknown(Int64)
    case alreadyResolved(Int64)
    /// Neither side of the conflict has that name.
    case noSuchSide(String, sides: [String])
    /// The table or the column is not there any more.
    case columnGone(table: QualifiedName, column: String)
    /// The match columns do not identify one row.
    case keyUnusable(table: QualifiedName)
    /// The database may not write the column: it is another's.
    case notWritable(table: QualifiedName, column: String)
    case rowGone(Int64)
    /// The row holds another value than the conflict says it kept.
    case valueMoved(Int64)
    /// Only a person can write a whole row.
    case wholeRow(Int64, winner: String)
    /// The server does not take the value.
    case refused(Int64, String)
}

/// Carries out what a person decided about a conflict: an ordinary write of the column, which the other direction takes
/// along like any local write, and the mark, in one transaction.
public struct ManualResolver {
    let connection: PostgresConnection
    /// Whether this database may write the column, by the configuration.
    let mayWrite: (QualifiedName, String) -> Bool

    public init(connection: PostgresConnection, mayWrite: @escaping (QualifiedName, String) -> Bool) {
        self.connection = connection
        self.mayWrite = mayWrite
    }

    /// - Parameter force: goes on although the row holds another value than the conflict kept, or is gone.
    /// - Returns: what became of the row.
    /// - Throws: `ConflictError`; nothing is changed then.
    @discardableResult
    public func resolve(_ id: Int64, take choice: ConflictChoice, force: Bool = false) async throws -> ConflictOutcome {
        try await connection.inTransaction { try await decide(id, choice, force: force) }
    }

    private func decide(_ id: Int64, _ choice: ConflictChoice, force: Bool) async throws -> ConflictOutcome {
        let store = ConflictStore(connection: connection)
        guard try await store.exists() else { throw ConflictError.unknown(id) }
        // The lock first: of two persons the second sees what the first decided.
        _ = try await connection.query(
            "SELECT 1 FROM lindero.conflict WHERE id = $1::text::bigint FOR UPDATE", [.text("\(id)")])
        guard let (conflict, values) = try await store.show(id) else { throw ConflictError.unknown(id) }
        guard conflict.state != .resolved else { throw ConflictError.alreadyResolved(id) }
        let sides = [conflict.kept.database, conflict.lost.database]
        if case .side(let side) = choice, !sides.contains(side) { throw ConflictError.noSuchSide(side, sides: sides) }
        var outcome = ConflictOutcome.stands
        if let column = conflict.column {
            outcome = try await write(conflict, values, column: column, choice, force: force)
        } else if choice != .side(conflict.kept.database) {
            throw ConflictError.wholeRow(id, winner: conflict.kept.database)
        }
        try await mark(id, choice)
        return outcome
    }

    private func write(
        _ conflict: RecordedConflict, _ values: ConflictValues, column: String, _ choice: ConflictChoice, force: Bool
    ) async throws -> ConflictOutcome {
        let wanted: String?
        switch choice {
        case .side(conflict.kept.database): wanted = values.kept
        case .side: wanted = values.lost
        case .value(let value): wanted = value
        }
        let row = try await ConflictRow(connection: connection, conflict: conflict, key: values.key, column: column)
        guard let found = try await row.lock() else {
            guard force else { throw ConflictError.rowGone(conflict.id) }
            return .rowGone
        }
        if try await row.isSame(found.value, wanted) { return .stands }
        if !force, try await !row.isSame(found.value, values.kept) { throw ConflictError.valueMoved(conflict.id) }
        guard mayWrite(conflict.table, column) else {
            throw ConflictError.notWritable(table: conflict.table, column: column)
        }
        try await row.write(wanted)
        return .written
    }

    private func mark(_ id: Int64, _ choice: ConflictChoice) async throws {
        let resolution =
            switch choice {
            case .side(let side): "take \(side)"
            case .value: "value"
            }
        _ = try await connection.query(
            """
            UPDATE lindero.conflict SET state = 'resolved', resolved_at = pg_catalog.clock_timestamp(),
              resolved_by = session_user, resolution = $2
            WHERE id = $1::text::bigint
            """, [.text("\(id)"), .text(resolution)])
    }
}

/// The one cell that a conflict is about, as the table has it now.
private struct ConflictRow {
    let connection: PostgresConnection
    let id: Int64
    let table: QualifiedName
    /// In SQL, without those that inherit from it: one of theirs may have the same key.
    let rows: String
    let column: ColumnDescription
    let key: [(column: ColumnDescription, value: String)]

    init(
        connection: PostgresConnection, conflict: RecordedConflict, key: [(column: String, value: String)], column: String
    ) async throws {
        self.connection = connection
        id = conflict.id
        table = conflict.table
        let found = try await CatalogReader.tables(connection, matching: [conflict.table]).first
        guard let found, let cell = found.column(column), !cell.isGenerated else {
            throw ConflictError.columnGone(table: conflict.table, column: column)
        }
        rows = found.only
        self.column = cell
        self.key = try key.map { entry in
            guard let part = found.column(entry.column) else {
                throw ConflictError.columnGone(table: conflict.table, column: entry.column)
            }
            return (part, entry.value)
        }
        let names = Set(key.map(\.column))
        let keys = ([found.primaryKey] + found.uniqueKeys).filter { !$0.isEmpty }
        // Otherwise several rows would get the value.
        guard keys.contains(where: { names.isSuperset(of: $0) }) else { throw ConflictError.keyUnusable(table: conflict.table) }
    }

    private func condition(from number: Int) -> String {
        key.indices.map { "\(SQLText.identifier(key[$0].column.name)) = $\(number + $0)" }.joined(separator: " AND ")
    }

    private var keyParameters: [PostgresParameter] { key.map { .text($0.value) } }
    private var keyTypes: [UInt32] { key.map(\.column.typeOID) }

    /// The value, `nil` for NULL; `nil` when there is no such row.
    func lock() async throws -> (value: String?, Void)? {
        let result = try await attempt(
            "SELECT \(SQLText.identifier(column.name)) FROM \(rows) WHERE \(condition(from: 1)) FOR UPDATE",
            keyParameters, keyTypes)
        guard result.rowCount == 1 else { return nil }
        return (result.firstValue, ())
    }

    /// Through the type, so that two spellings of one value are the same.
    func isSame(_ left: String?, _ right: String?) async throws -> Bool {
        if left == right { return true }
        guard let left, let right else { return false }
        let result = try await attempt(
            "SELECT 1 WHERE $1::text = $2::text", [.text(left), .text(right)], [column.typeOID, column.typeOID])
        return result.rowCount == 1
    }

    func write(_ value: String?) async throws {
        let result = try await attempt(
            "UPDATE \(rows) SET \(SQLText.identifier(column.name)) = $1 WHERE \(condition(from: 2))",
            [value.map { .text($0) } ?? .null] + keyParameters, [column.typeOID] + keyTypes)
        guard result.affectedRows == 1 else { throw ConflictError.rowGone(id) }
    }

    private func attempt(
        _ sql: String, _ parameters: [PostgresParameter], _ types: [UInt32]
    ) async throws -> PostgresResult {
        do {
            return try await connection.query(sql, parameters, parameterTypes: types)
        } catch {
            // What may pass by itself is told as what it is.
            guard case .server(let refusal) = error, !error.isTransient, refusal.sqlState.rawValue != "42501" else { throw error }
            throw ConflictError.refused(id, "\(refusal)")
        }
    }
}
