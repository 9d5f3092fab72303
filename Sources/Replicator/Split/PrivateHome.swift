import PostgresClient
import ReplicationCore

/// Writes on the origin what the other side holds in columns that did not travel until now.
///
/// A write of it can't replace a newer one. The origin's row is read first, then, once no commit is hidden there, the other
/// side's; it is written if the origin's row is the same version still. So what had arrived before is seen, and what arrives
/// later meets an ordinary write of the origin that it had not seen, and is preferred (`inTransition`).
struct PrivateHome: Sendable {
    private static let rowsAtOnce = 500
    /// Of values that are held at once, beside one row.
    private static let bytesAtOnce = 4 << 20
    /// How often a row that changes all the time is tried.
    private static let attempts = 30

    private let settings: SplitSettings

    init(settings: SplitSettings) { self.settings = settings }

    /// - Parameters:
    ///   - columns: by table.
    ///   - show: told after each stretch of a table.
    /// - Returns: how many rows were written.
    func bring(_ columns: [QualifiedName: [String]], show: (_ looked: Int, _ written: Int) -> Void) async throws -> Int {
        // The applier's kind of session: values come from where triggers have fired.
        let writing = settings[writing: .origin].applyOptions
        return try await PostgresConnection.with(writing) { origin in
            try await PostgresConnection.with(settings.options(.other)) { other in
                var (looked, written) = (0, 0)
                for table in try await CatalogReader.tables(origin, matching: columns.keys.sorted()) {
                    guard let names = columns[table.name], let match = settings[reading: .origin].policy?.tables[table.name]?.match
                    else { continue }
                    let walk = Walk(sql: PrivateSQL(table: table, match: match, columns: names), origin: origin, other: other)
                    var last: [String?]?
                    while true {
                        let stretch = try await walk.rows(after: last)
                        guard let end = stretch.last else { break }
                        last = end.key
                        written += try await walk.bring(stretch)
                        looked += stretch.count
                        show(looked, written)
                    }
                }
                return written
            }
        }
    }

    /// A row of the origin as it was seen.
    fileprivate struct Row {
        var key: [String?]
        var version: String
        /// Of the columns.
        var digest: String
    }

    /// One table, stretch by stretch.
    private struct Walk {
        let sql: PrivateSQL
        let origin: PostgresConnection
        let other: PostgresConnection

        func rows(after key: [String?]?) async throws -> [Row] {
            rows(try await origin.query(sql.stretch(isFirst: key == nil, limit: PrivateHome.rowsAtOnce), (key ?? []).map(Self.parameter)))
        }

        /// Writes what differs; again where the row has changed meanwhile.
        func bring(_ stretch: [Row]) async throws -> Int {
            var open = stretch
            var written = 0
            for attempt in 1...PrivateHome.attempts {
                let isSettled = try await HiddenCommits(connection: other).settle()
                let differing = isSettled ? try await differing(open) : open.map { ($0, 0) }
                if differing.isEmpty { return written }
                var done = 0
                if isSettled { for batch in Self.batches(differing) { done += try await write(batch) } }
                written += done
                if done == differing.count { return written }
                try await Task.sleep(for: .milliseconds(5 * attempt))
                open = rows(try await origin.query(sql.again, keys(differing.map(\.row.key))))
            }
            throw busy()
        }

        /// Rows that the other side holds otherwise, with how large its values are.
        private func differing(_ rows: [Row]) async throws -> [(row: Row, sizeBytes: Int)] {
            let digests = try await other.query(sql.digests, keys(rows.map(\.key)))
            var known: [[String?]: (digest: String?, sizeBytes: Int)] = [:]
            for row in digests.rows {
                let count = sql.match.count
                known[sql.match.indices.map { row[$0] }] = (row[count], row[count + 1].flatMap { Int($0) } ?? 0)
            }
            // A row that the other side has not got is on its way, or gone.
            return rows.compactMap { row in known[row.key].flatMap { $0.digest == row.digest ? nil : (row, $0.sizeBytes) } }
        }

        private static func batches(_ rows: [(row: Row, sizeBytes: Int)]) -> [[Row]] {
            var batches: [[Row]] = []
            var room = 0
            for (row, sizeBytes) in rows {
                if batches.isEmpty || sizeBytes > room {
                    batches.append([])
                    room = PrivateHome.bytesAtOnce
                }
                batches[batches.count - 1].append(row)
                room -= sizeBytes
            }
            return batches
        }

        private func write(_ rows: [Row]) async throws -> Int {
            var values: [[String?]: [String?]] = [:]
            for row in try await other.query(sql.values, keys(rows.map(\.key))).rows {
                values[sql.match.indices.map { row[$0] }] = sql.columns.indices.map { row[sql.match.count + $0] }
            }
            let found = rows.compactMap { row in values[row.key].map { (row: row, values: $0) } }
            var parameters = keys(found.map(\.row.key))
            parameters.append(Self.array(found.map(\.row.version)))
            for index in sql.columns.indices { parameters.append(Self.array(found.map { $0.values[index] })) }
            do {
                return try await origin.query(sql.write, parameters).affectedRows
            } catch {
                // Somebody holds the rows in another order.
                guard error.sqlState?.rawValue == "40P01" else { throw error }
                return 0
            }
        }

        private func rows(_ result: PostgresResult) -> [Row] {
            let count = sql.match.count
            return result.rows.map { row in
                Row(key: (0..<count).map { row[$0] }, version: row[count] ?? "", digest: row[count + 1] ?? "")
            }
        }

        /// An array of each match column.
        private func keys(_ keys: [[String?]]) -> [PostgresParameter] {
            sql.match.indices.map { index in Self.array(keys.map { $0[index] }) }
        }

        private static func array(_ values: [String?]) -> PostgresParameter { .text(SQLText.arrayLiteral(nullable: values)) }
        private static func parameter(_ value: String?) -> PostgresParameter { value.map { .text($0) } ?? .null }

        private func busy() -> ReplicationFailure {
            ReplicationFailure(
                .tableInUse, "Rows of \(sql.table.name) are written all the time, so that private columns can't be brought home.",
                nextStep: "The same command goes on; at a quieter time, if need be.")
        }
    }
}

/// Statements of one table. Keys and values travel as text.
private struct PrivateSQL {
    let table: TableDescription
    let match: [String]
    let columns: [String]

    private func type(_ column: String) -> String { table.column(column)?.type ?? "text" }
    private func own(_ column: String) -> String { "t.\(SQLText.identifier(column))" }
    private var keyList: String { match.map(own).joined(separator: ", ") }
    private var keyTexts: String { match.map { "\(own($0))::text" }.joined(separator: ", ") }
    private var digest: String {
        "pg_catalog.md5(pg_catalog.concat_ws(',', \(columns.map { "pg_catalog.md5(\(own($0))::text), \(own($0)) IS NULL" }.joined(separator: ", "))))"
    }

    /// The next rows of the origin in the key's order. Parameters: the last key, but for the first stretch.
    func stretch(isFirst: Bool, limit: Int) -> String {
        let last = match.enumerated().map { "$\($0 + 1)::text::\(type($1))" }.joined(separator: ", ")
        return "SELECT \(keyTexts), t.xmin::text, \(digest) FROM \(table.name.sql) AS t"
            + (isFirst ? "" : " WHERE (\(keyList)) > (\(last))") + " ORDER BY \(keyList) LIMIT \(limit)"
    }

    /// Parameters of all that follow: an array for each match column.
    var again: String { "SELECT \(keyTexts), t.xmin::text, \(digest) \(from())" }
    var digests: String {
        let sizes = columns.map { "coalesce(octet_length(\(own($0))::text), 0)" }.joined(separator: " + ")
        return "SELECT \(keyTexts), \(digest), (\(sizes))::text \(from())"
    }
    var values: String { "SELECT \(keyTexts), \(columns.map { "\(own($0))::text" }.joined(separator: ", ")) \(from())" }

    /// And of the versions, and for each column.
    var write: String {
        let extra = ["version"] + columns.indices.map { "c\($0)" }
        let set = columns.enumerated().map { "\(SQLText.identifier($1)) = w.c\($0)::\(type($1))" }.joined(separator: ", ")
        return "UPDATE \(table.name.sql) AS t SET \(set) FROM \(wanted(extra)) WHERE \(condition) AND t.xmin::text = w.version"
    }

    private func from() -> String { "FROM \(table.name.sql) AS t, \(wanted([])) WHERE \(condition)" }

    private func wanted(_ extra: [String]) -> String {
        let names = match.indices.map { "k\($0)" } + extra
        let arrays = names.indices.map { "$\($0 + 1)::text[]" }.joined(separator: ", ")
        return "unnest(\(arrays)) AS w(\(names.joined(separator: ", ")))"
    }

    private var condition: String {
        match.enumerated().map { "\(own($1)) = w.k\($0)::\(type($1))" }.joined(separator: " AND ")
    }
}
