import PostgresClient
import ReplicationCore

/// Reads what both sides hold in a row that differs. Row data: only for whoever asked to see it.
public struct RowValues: Sendable {
    public struct Value: Sendable, Equatable {
        public var column: String
        /// In text form; `nil` for NULL, and for a row that is not there.
        public var source: String?
        public var target: String?
    }

    let pair: VerifyPair

    /// Runs `body` with a reader.
    public static func with<Result: Sendable>(
        _ settings: DirectionSettings, _ body: (RowValues) async throws -> Result
    ) async throws -> Result {
        let pair = try await VerifyPair.connect(settings.source, settings.target)
        do {
            let result = try await body(RowValues(pair: pair))
            await pair.close()
            return result
        } catch {
            await pair.close()
            throw error
        }
    }

    /// The columns that differ; of a row that one side lacks, all.
    public func read(_ difference: RowDifference, of table: VerifyTable) async throws -> [Value] {
        let columns = table.columns.filter { difference.columns.isEmpty || difference.columns.contains($0.name) }
        let sql = VerifySQL(table: table, seed: 0, differsInEncoding: false)
        var sides: [VerifySide: PostgresRow] = [:]
        for side in VerifySide.allCases {
            sides[side] = try await pair[side].query(
                sql.values(columns, side), [difference.key].parameters(table)
            ).rows.first
        }
        return columns.enumerated().map { index, column in
            Value(column: column.name, source: sides[.source]?[index + 1], target: sides[.target]?[index + 1])
        }
    }
}
