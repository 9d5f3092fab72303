import PostgresClient
import ReplicationCore

/// Records that are applied in one transaction: no key twice, so their order does not matter.
struct UpsertBatch {
    private(set) var records: [UpsertRecord] = []
    private(set) var sizeBytes = 0
    private var keys: Set<[String]> = []

    var isEmpty: Bool { records.isEmpty }

    func contains(key: [String]) -> Bool { keys.contains(key) }

    mutating func add(_ record: UpsertRecord) {
        sizeBytes += record.values.reduce(64) { $0 + ($1?.utf8.count ?? 0) }
        keys.insert(record.key)
        records.append(record)
    }

    /// The records by their columns, each group sorted by key: two services that lock rows do it in the same order.
    var groups: [[UpsertRecord]] {
        let byColumns = Dictionary(grouping: records, by: \.columns)
        return byColumns.keys.sorted { $0.lexicographicallyPrecedes($1) }.map { columns in
            (byColumns[columns] ?? []).sorted { $0.key.lexicographicallyPrecedes($1.key) }
        }
    }

    /// Two halves, to find the record that PostgreSQL refuses.
    var halves: [UpsertBatch] {
        let middle = records.count / 2
        return [records[..<middle], records[middle...]].map { part in
            var batch = UpsertBatch()
            for record in part { batch.add(record) }
            return batch
        }
    }
}

/// Applies batches over one connection, which is made anew when it is lost.
struct UpsertWriter {
    let options: ConnectionOptions
    let table: TableDescription
    let ownership: TableOwnership
    let side: String
    let limits: UpsertOptions
    private var connection: PostgresConnection?
    private var statements: [[String]: UpsertStatement] = [:]

    init(
        options: ConnectionOptions, table: TableDescription, ownership: TableOwnership, side: String, limits: UpsertOptions
    ) {
        self.options = options
        self.table = table
        self.ownership = ownership
        self.side = side
        self.limits = limits
    }

    mutating func close() async {
        await connection?.close()
        connection = nil
    }

    /// Applies a batch; a record that PostgreSQL refuses is found by halving, and the others are applied.
    mutating func apply(_ batch: UpsertBatch, refusals: inout [UpsertRefusal]) async throws -> UpsertSummary {
        guard !batch.isEmpty else { return UpsertSummary() }
        var retries = 0
        while true {
            var found: [UpsertRefusal] = []
            let failure: PostgresError
            do {
                var summary = try await attempt(batch, &found)
                summary.retries = retries
                refusals += found
                return summary
            } catch let error as PostgresError {
                failure = error
            }
            _ = try? await connection?.execute("ROLLBACK")
            if failure.isTransient, retries + 1 < limits.attempts {
                retries += 1
                if await connection?.isAlive != true { await close() }
                // Half of the wait is random, so that two services that met do not meet again.
                let waitMilliseconds = min(5_000, 20 << min(retries, 8))
                try await Task.sleep(for: .milliseconds(waitMilliseconds / 2 + Int.random(in: 0...waitMilliseconds / 2)))
                continue
            }
            guard case .server(let error) = failure, ["21", "22", "23", "44", "P0"].contains(error.sqlState.class) else {
                throw failure
            }
            return try await narrow(batch, error, &refusals)
        }
    }

    private mutating func narrow(
        _ batch: UpsertBatch, _ error: ServerError, _ refusals: inout [UpsertRefusal]
    ) async throws -> UpsertSummary {
        var summary = UpsertSummary()
        guard batch.records.count > 1 else {
            let record = batch.records[0]
            refusals.append(
                UpsertRefusal(
                    lineNumber: record.lineNumber, column: error.column,
                    reason: .database(condition: error.sqlState.conditionName, constraint: error.constraint)))
            summary.refused = 1
            return summary
        }
        for half in batch.halves { summary += try await apply(half, refusals: &refusals) }
        return summary
    }

    private mutating func attempt(_ batch: UpsertBatch, _ refusals: inout [UpsertRefusal]) async throws -> UpsertSummary {
        let connection = try await connected()
        var summary = UpsertSummary()
        _ = try await connection.execute("BEGIN")
        for group in batch.groups { summary += try await apply(group, on: connection, &refusals) }
        _ = try await connection.execute("COMMIT")
        return summary
    }

    private mutating func apply(
        _ records: [UpsertRecord], on connection: PostgresConnection, _ refusals: inout [UpsertRefusal]
    ) async throws -> UpsertSummary {
        let columns = records[0].columns
        let statement =
            statements[columns] ?? UpsertStatement(table: table, ownership: ownership, side: side, columns: columns)
        statements[columns] = statement
        let arrays = columns.indices.map { index in TextArray.parameter(records.map { $0.values[index] }) }
        let result = try await connection.query(
            statement.sql, arrays, timeoutMilliseconds: limits.statementTimeoutMilliseconds)
        var summary = UpsertSummary()
        guard let row = result.rows.first else { return summary }
        summary.inserted = row[0].flatMap { Int($0) } ?? 0
        summary.updated = (row[1].flatMap { Int($0) } ?? 0) + (row[2].flatMap { Int($0) } ?? 0)
        if !statement.mayInsert || statement.missingForInsert != nil {
            let missing = SQLText.elements(ofArray: row[3] ?? "{}").compactMap { Int($0) }
            summary.refused = missing.count
            refusals += missing.map { refusal(records[$0 - 1], statement) }
        }
        summary.unchanged = records.count - summary.inserted - summary.updated - summary.refused
        return summary
    }

    private func refusal(_ record: UpsertRecord, _ statement: UpsertStatement) -> UpsertRefusal {
        guard statement.mayInsert, let column = statement.missingForInsert else {
            return UpsertRefusal(
                lineNumber: record.lineNumber,
                reason: .mayNotInsert(
                    side: side, table: table.name.description, owners: ownership.insertOwners.sorted()))
        }
        var owner: String?
        if case .owned(let name)? = ownership.columns[column], name != side { owner = name }
        return UpsertRefusal(
            lineNumber: record.lineNumber, column: column, reason: .incompleteInsert(owner: owner))
    }

    private mutating func connected() async throws -> PostgresConnection {
        if let connection { return connection }
        var pinned = options
        pinned.settings.append((name: "statement_timeout", value: "\(limits.statementTimeoutMilliseconds)"))
        let made = try await PostgresConnection.connect(pinned)
        connection = made
        return made
    }
}
