import PostgresClient
import ReplicationCore

/// What became of the records so far.
struct UpsertOutcome {
    var summary = UpsertSummary()
    var refusals: [UpsertRefusal] = []
    /// The first record of the batch that is being applied, or that could not be.
    var lineNumber: Int?
}

/// Applies batches over one connection, which is made anew when it is lost.
struct UpsertWriter {
    let options: ConnectionOptions
    let table: TableDescription
    let ownership: TableOwnership
    let side: String
    let limits: UpsertOptions
    /// Whether a batch that failed is not to be tried again.
    let isStopping: @Sendable () -> Bool
    private var connection: PostgresConnection?
    private var catalog: UpsertCatalog?
    private var statements: [[String]: UpsertStatement] = [:]

    init(
        options: ConnectionOptions, table: TableDescription, ownership: TableOwnership, side: String, limits: UpsertOptions,
        isStopping: @escaping @Sendable () -> Bool
    ) {
        self.options = options
        self.table = table
        self.ownership = ownership
        self.side = side
        self.limits = limits
        self.isStopping = isStopping
    }

    mutating func close() async {
        await connection?.close()
        connection = nil
    }

    /// Applies a batch; a record that PostgreSQL refuses is found by halving, and the others are applied. What is
    /// committed is in the outcome, whatever is thrown.
    mutating func apply(_ batch: UpsertBatch, _ outcome: inout UpsertOutcome) async throws {
        guard let first = batch.records.first else { return }
        outcome.lineNumber = first.lineNumber
        var attempts = 0
        while true {
            attempts += 1
            let failure: PostgresError
            do {
                let (summary, refusals) = try await attempt(batch)
                outcome.summary += summary
                outcome.refusals += refusals
                outcome.lineNumber = nil
                return
            } catch let error as PostgresError {
                failure = error
            }
            await recover()
            if failure.isTransient, attempts < limits.attempts, !isStopping() {
                outcome.summary.retries += 1
                // Half of the wait is random, so that two services that met do not meet again.
                let waitMilliseconds = min(5_000, 20 << min(attempts, 8))
                try await Task.sleep(for: .milliseconds(waitMilliseconds / 2 + Int.random(in: 0...waitMilliseconds / 2)))
                continue
            }
            guard case .server(let error) = failure, Self.isRecordsFault(error) else { throw failure }
            return try await narrow(batch, error, &outcome)
        }
    }

    /// Whether other records may pass where this error stopped one.
    private static func isRecordsFault(_ error: ServerError) -> Bool {
        switch error.sourceFunction {
        // RAISE in a trigger, with any code; row-level security, whose code is that of a missing privilege.
        case "exec_stmt_raise", "ExecWithCheckOptions": true
        default: ["09", "21", "22", "23", "2F", "38", "39", "44", "54", "P0"].contains(error.sqlState.class)
        }
    }

    /// Ends the failed transaction; a connection on which that is impossible is given up.
    private mutating func recover() async {
        guard let connection else { return }
        do {
            try await connection.rollback()
        } catch {
            await close()
        }
    }

    private mutating func narrow(_ batch: UpsertBatch, _ error: ServerError, _ outcome: inout UpsertOutcome) async throws {
        guard batch.records.count > 1 else {
            let record = batch.records[0]
            let isRowSecurity = error.sourceFunction == "ExecWithCheckOptions" && error.sqlState.class == "42"
            let column = isRowSecurity ? nil : await columnAtFault(record, error)
            let condition = error.sourceFunction == "ExecFindPartition" ? "no partition of the table takes it" : error.sqlState.conditionName
            outcome.refusals.append(
                UpsertRefusal(
                    lineNumber: record.lineNumber, column: column,
                    reason: isRowSecurity
                        ? .rowSecurity : .database(condition: condition, constraint: error.constraint)))
            outcome.summary.refused += 1
            outcome.lineNumber = nil
            return
        }
        for half in batch.halves { try await apply(half, &outcome) }
    }

    /// Conversions do not name their column: halves of the record are tried alone.
    private func columnAtFault(_ record: UpsertRecord, _ error: ServerError) async -> String? {
        if let column = error.column { return column }
        let isDomains = error.sqlState.class == "23" && error.table == nil
        guard error.sqlState.class == "22" || error.sqlState.rawValue == "54001" || isDomains else { return nil }
        var suspects = record.columns.indices[...]
        guard await converts(record, suspects) == false else { return nil }
        while suspects.count > 1 {
            let half = suspects.prefix(suspects.count / 2)
            guard let isFine = await converts(record, half) else { return nil }
            suspects = isFine ? suspects.dropFirst(half.count) : half
        }
        return suspects.first.map { record.columns[$0] }
    }

    /// Whether these columns can hold the record's values; `nil` when that can't be asked.
    private func converts(_ record: UpsertRecord, _ columns: Range<Int>.SubSequence) async -> Bool? {
        let tests = columns.enumerated().compactMap { place, index in
            table.column(record.columns[index]).map { UpsertColumn(description: $0).fits("$\(place + 1)::pg_catalog.text") }
        }
        let values = columns.map { record.values[$0].map { PostgresParameter.text($0) } ?? .null }
        do {
            let result = try await connection?.query(
                "SELECT \(tests.joined(separator: " AND "))", values,
                timeoutMilliseconds: limits.statementTimeoutMilliseconds)
            return result?.rows.first.map { $0[0] == "t" }
        } catch {
            guard case .server(let refused) = error, Self.isRecordsFault(refused) else { return nil }
            return false
        }
    }

    private mutating func attempt(_ batch: UpsertBatch) async throws -> (UpsertSummary, [UpsertRefusal]) {
        let connection = try await connected()
        let catalog = try await known(connection)
        var summary = UpsertSummary()
        var refusals: [UpsertRefusal] = []
        var metRows = 0
        _ = try await connection.execute("BEGIN; SET LOCAL \(UpsertStatement.metRows) = '0'")
        for group in batch.rounds(keys: try await keys(of: batch, catalog, on: connection)) {
            summary += try await apply(group, catalog, on: connection, metRows: &metRows, &refusals)
        }
        _ = try await connection.execute("COMMIT")
        return (summary, refusals)
    }

    /// A number for each record, the same for the same key, however it is spelled.
    private func keys(
        of batch: UpsertBatch, _ catalog: UpsertCatalog, on connection: PostgresConnection
    ) async throws -> [Int] {
        let columns = ownership.match.compactMap { table.column($0) }
        guard batch.records.count > 1, catalog.hasSpellings(columns) else { return batch.keysAsWritten }
        let arrays = columns.indices.map { index in TextArray.parameter(batch.records.map { $0.key[index] }) }
        let result = try await connection.query(
            UpsertStatement.keyNumbers(columns, catalog), arrays, timeoutMilliseconds: limits.statementTimeoutMilliseconds)
        return SQLText.elements(ofArray: result.rows.first?[0] ?? "{}").compactMap { Int($0) }
    }

    private mutating func apply(
        _ records: [UpsertRecord], _ catalog: UpsertCatalog, on connection: PostgresConnection, metRows: inout Int,
        _ refusals: inout [UpsertRefusal]
    ) async throws -> UpsertSummary {
        let columns = records[0].columns
        let statement =
            statements[columns]
            ?? UpsertStatement(table: table, ownership: ownership, side: side, columns: columns, catalog: catalog)
        statements[columns] = statement
        let arrays = columns.indices.map { index in TextArray.parameter(records.map { $0.values[index] }) }
        let result = try await connection.query(
            statement.sql, arrays, timeoutMilliseconds: limits.statementTimeoutMilliseconds)
        var summary = UpsertSummary()
        guard let row = result.rows.first else { return summary }
        let metBefore = metRows
        metRows = row["met"].flatMap { Int($0) } ?? metBefore
        summary.inserted = max(0, (row["written"].flatMap { Int($0) } ?? 0) - (metRows - metBefore))
        summary.updated = (row["updated"].flatMap { Int($0) } ?? 0) + (metRows - metBefore)
        if !statement.mayInsert || statement.missingForInsert != nil {
            let missing = SQLText.elements(ofArray: row["absent"] ?? "{}").compactMap { Int($0) }
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
        // A service writes what it sees; with `off` every table with row-level security would fail.
        pinned.settings.append((name: "row_security", value: "on"))
        pinned.settings.append((name: "statement_timeout", value: "\(limits.statementTimeoutMilliseconds)"))
        let made = try await PostgresConnection.connect(pinned)
        connection = made
        // Triggers find what they find in the service's own sessions; the statements here name schemas.
        _ = try await made.execute("RESET search_path")
        return made
    }

    private mutating func known(_ connection: PostgresConnection) async throws -> UpsertCatalog {
        if let catalog { return catalog }
        let read = try await UpsertCatalog.read(table, on: connection)
        catalog = read
        return read
    }
}
