import PostgresClient
import ReplicationCore

/// A connection to each side.
struct VerifyPair: Sendable {
    let source: PostgresConnection
    let target: PostgresConnection

    subscript(side: VerifySide) -> PostgresConnection { side == .source ? source : target }

    /// One core at most, and along the key's index, whatever the planner believes of the table.
    static func options(_ options: ConnectionOptions) -> ConnectionOptions {
        var options = options
        options.settings += [
            (name: "max_parallel_workers_per_gather", value: "0"), (name: "jit", value: "off"),
            (name: "enable_seqscan", value: "off"), (name: "default_transaction_read_only", value: "on"),
        ]
        return options
    }

    /// For reading.
    static func connect(_ source: ConnectionOptions, _ target: ConnectionOptions) async throws -> VerifyPair {
        try await open(options(source), options(target))
    }

    static func open(_ source: ConnectionOptions, _ target: ConnectionOptions) async throws -> VerifyPair {
        let first = try await PostgresConnection.connect(source)
        do {
            return VerifyPair(source: first, target: try await PostgresConnection.connect(target))
        } catch {
            await first.close()
            throw error
        }
    }

    func close() async {
        await source.close()
        await target.close()
    }
}

/// The questions of a comparison, asked on one side.
extension PostgresConnection {
    nonisolated func digest(
        _ sql: VerifySQL, _ range: KeyRange, _ side: VerifySide, limitRows: Int
    ) async throws -> ChunkDigest {
        let row = try await query(sql.digest(range, side, limitRows: limitRows), range.parameters).rows.first
        return ChunkDigest(
            rows: row?[0].flatMap { Int($0) } ?? 0, sum: row?[1] ?? "", bytes: row?[2].flatMap { Int($0) } ?? 0)
    }

    nonisolated func list(_ sql: VerifySQL, _ range: KeyRange, _ walk: VerifyTable.Walk) async throws -> [HashedRow] {
        let count = sql.table.key.count
        return try await query(sql.list(range, walk), range.parameters).rows.map { row in
            HashedRow(key: VerifyKey((0..<count).map { row[$0] ?? "" }), hash: row[count] ?? "")
        }
    }

    /// The hashes of rows that are there, under the keys that were asked for.
    nonisolated func lookUp(_ sql: VerifySQL, _ keys: [VerifyKey], _ side: VerifySide) async throws -> [HashedRow] {
        try await query(sql.lookUp(side), keys.parameters(sql.table)).rows.compactMap { row in
            row[0].flatMap { Int($0) }.map { HashedRow(key: keys[$0 - 1], hash: row[1] ?? "") }
        }
    }

    nonisolated func border(
        _ sql: VerifySQL, _ range: KeyRange, _ walk: VerifyTable.Walk, rows: Int
    ) async throws -> VerifyKey? {
        try await query(sql.border(range, walk, rows: rows), range.parameters).rows.first.map { row in
            VerifyKey(sql.table.key.indices.map { row[$0] ?? "" })
        }
    }

    /// A reading of each key's row, and the key as the row itself spells it.
    nonisolated func read(
        _ sql: VerifySQL, _ keys: [VerifyKey], _ side: VerifySide
    ) async throws -> [VerifyKey: (reading: RowReading, spelling: VerifyKey)] {
        var readings: [VerifyKey: (reading: RowReading, spelling: VerifyKey)] = [:]
        for row in try await query(sql.read(side), keys.parameters(sql.table)).rows {
            guard let number = row[0].flatMap({ Int($0) }) else { continue }
            let spelling = VerifyKey(sql.table.key.indices.map { row[3 + $0] ?? "" })
            readings[keys[number - 1]] = (
                RowReading(version: row[1] ?? "", columns: SQLText.elements(ofArray: row[2] ?? "{}")), spelling
            )
        }
        return readings
    }
}
