import PostgresClient
import ReplicationCore

/// Writes records into a table, each column only if it is supplied, changed and owned.
///
/// Rows that already are as a record says are not touched: no lock, no new row version, no WAL. Columns that a record
/// does not mention keep their values. Two services may upsert the same rows at the same time.
public struct ColumnUpsert: Sendable {
    let connection: ConnectionOptions
    let table: TableDescription
    let ownership: TableOwnership
    let side: String
    let options: UpsertOptions
    /// Asked before each batch: whether it, and what follows it, stay undone.
    public var isStopping: @Sendable () -> Bool = { false }

    /// - Parameters:
    ///   - connection: where to write, as a role that may; used for one connection, which is made anew when lost.
    ///   - table: as `CatalogReader` describes it.
    ///   - side: the side in whose name the records are written.
    /// - Throws: `noMatchKey`.
    public init(
        connection: ConnectionOptions, table: TableDescription, ownership: TableOwnership, side: String,
        options: UpsertOptions = UpsertOptions()
    ) throws(UpsertFailure) {
        guard !ownership.match.isEmpty else { throw .noMatchKey(table: table.name.description) }
        self.connection = connection
        self.table = table
        self.ownership = ownership
        self.side = side
        self.options = options
    }

    /// Applies every record, in order and in bounded memory.
    ///
    /// - Parameters:
    ///   - read: the next bytes of the input, of any length; `nil` at its end.
    ///   - onRefusal: called for each refused record, after its batch is committed.
    /// - Throws: `UpsertFailure.header`; `UpsertInterruption` for what no single record is to blame for, with a `CancellationError` where
    ///   `isStopping` said so.
    public func run(
        format: UpsertFormat, read: @Sendable () async throws -> [UInt8]?,
        onRefusal: @Sendable (UpsertRefusal) async throws -> Void
    ) async throws -> UpsertSummary {
        let reader = UpsertRecordReader(table: table, ownership: ownership, side: side)
        var writer = UpsertWriter(
            options: connection, table: table, ownership: ownership, side: side, limits: options, isStopping: isStopping)
        var splitter = RecordSplitter(format: format, limitBytes: options.recordBytes)
        var pending = Pending()
        do {
            while let bytes = try await read() {
                for record in splitter.add(bytes) { try await take(record, format, reader, &writer, &pending, onRefusal) }
            }
            if let last = splitter.finish() { try await take(last, format, reader, &writer, &pending, onRefusal) }
            try await flush(&writer, &pending, onRefusal)
        } catch {
            await writer.close()
            if error is UpsertFailure { throw error }
            try? await report(&pending, onRefusal)
            let line = pending.outcome.lineNumber ?? pending.batch.records.first?.lineNumber
            throw UpsertInterruption(summary: pending.outcome.summary, lineNumber: line, cause: error)
        }
        await writer.close()
        return pending.outcome.summary
    }

    /// What has been read and not yet applied.
    private struct Pending {
        var header: [String]?
        var batch = UpsertBatch()
        var outcome = UpsertOutcome()
    }

    private func take(
        _ record: RecordSplitter.Record, _ format: UpsertFormat, _ reader: UpsertRecordReader, _ writer: inout UpsertWriter,
        _ pending: inout Pending, _ onRefusal: @Sendable (UpsertRefusal) async throws -> Void
    ) async throws {
        if format == .csv && pending.header == nil {
            pending.header = try header(record, reader)
            return
        }
        let parsed: UpsertRecord
        do throws(UpsertRefusal) {
            parsed = try parse(record, pending.header, reader)
        } catch {
            pending.outcome.refusals.append(error)
            pending.outcome.summary.refused += 1
            if pending.outcome.refusals.count >= options.batchRecords { try await flush(&writer, &pending, onRefusal) }
            return
        }
        if pending.batch.records.count >= options.batchRecords || pending.batch.sizeBytes >= options.batchBytes {
            try await flush(&writer, &pending, onRefusal)
        }
        pending.batch.add(parsed)
    }

    private func flush(
        _ writer: inout UpsertWriter, _ pending: inout Pending,
        _ onRefusal: @Sendable (UpsertRefusal) async throws -> Void
    ) async throws {
        if isStopping() { throw CancellationError() }
        let batch = pending.batch
        pending.batch = UpsertBatch()
        try await writer.apply(batch, &pending.outcome)
        try await report(&pending, onRefusal)
    }

    private func report(
        _ pending: inout Pending, _ onRefusal: @Sendable (UpsertRefusal) async throws -> Void
    ) async throws {
        let refusals = pending.outcome.refusals.sorted { $0.lineNumber < $1.lineNumber }
        pending.outcome.refusals.removeAll()
        for refusal in refusals { try await onRefusal(refusal) }
    }

    /// The columns that a CSV file's first record names.
    private func header(
        _ record: RecordSplitter.Record, _ reader: UpsertRecordReader
    ) throws(UpsertFailure) -> [String] {
        let names: [String]
        do throws(UpsertRefusal) {
            names = try fields(record).map { $0 ?? "" }
        } catch {
            throw .header(error)
        }
        for name in names {
            if let refusal = reader.refusal(column: name, lineNumber: record.lineNumber) { throw .header(refusal) }
        }
        guard Set(names).count == names.count else {
            throw .header(UpsertRefusal(lineNumber: record.lineNumber, reason: .malformed("a column is named twice")))
        }
        return names
    }

    private func parse(
        _ record: RecordSplitter.Record, _ header: [String]?, _ reader: UpsertRecordReader
    ) throws(UpsertRefusal) -> UpsertRecord {
        guard let header else {
            try checkLength(record)
            return try reader.record(json: record.bytes, lineNumber: record.lineNumber)
        }
        let fields = try fields(record)
        guard fields.count == header.count else {
            throw UpsertRefusal(
                lineNumber: record.lineNumber,
                reason: .malformed("\(fields.count) fields where the header has \(header.count)"))
        }
        return try reader.record(Array(zip(header, fields)), lineNumber: record.lineNumber)
    }

    private func fields(_ record: RecordSplitter.Record) throws(UpsertRefusal) -> [String?] {
        try checkLength(record)
        do {
            return try CSVRecord.fields(of: record.bytes)
        } catch {
            throw UpsertRefusal(lineNumber: record.lineNumber, reason: .malformed(error.what))
        }
    }

    private func checkLength(_ record: RecordSplitter.Record) throws(UpsertRefusal) {
        guard record.isTooLong else { return }
        let what = "the record is longer than \(options.recordBytes) bytes"
        throw UpsertRefusal(lineNumber: record.lineNumber, reason: .malformed(what))
    }
}
