import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@testable import SharedBackend

@Suite struct UpsertTests {
    /// A fresh database with the reservation table, and upserts into it.
    struct Scene {
        let url: String
        let connection: PostgresConnection
        let table: TableDescription

        static let schema = """
            CREATE TYPE mood AS ENUM ('good', 'bad');
            CREATE TABLE "Reservas" ("bookingId" text PRIMARY KEY, "crmNotes" text, "beds24Status" text, "apiData" jsonb, plain json,
              phone varchar(12), price numeric(8, 2), seen timestamp(3), tags text[], matrix int[], m mood, required int NOT NULL DEFAULT 7,
              double numeric GENERATED ALWAYS AS (price * 2) STORED);
            """

        init() async throws {
            url = try await PostgresCluster.shared("source").createDatabase(prefix: "up")
            var options = ConnectionOptions(url)
            options.usesPinnedSettings = false
            connection = try await PostgresConnection.connect(options)
            _ = try await connection.execute(Self.schema)
            let name = QualifiedName(schema: "public", name: "Reservas")
            // Read as the program does, with an empty search_path, so that types come qualified.
            let reader = try await PostgresConnection.connect(ConnectionOptions(url))
            let found = try await CatalogReader.tables(reader, matching: [name])
            await reader.close()
            table = try #require(found.first)
        }

        var ownership: TableOwnership {
            var columns: [String: TableOwnership.ColumnOwner] = [:]
            for column in table.columns where !column.isGenerated { columns[column.name] = .owned(by: "sync") }
            columns["crmNotes"] = .owned(by: "bot")
            columns["phone"] = .shared(SharedColumnRule(policy: .lastWrite))
            return TableOwnership(
                table: table.name, match: ["bookingId"], insertOwners: ["sync"], deleteOwners: ["sync"], privateColumns: [],
                columns: columns)
        }

        func upsert(
            _ text: String, as side: String = "sync", format: UpsertFormat = .ndjson, chunk: Int = 1 << 16,
            options: UpsertOptions = UpsertOptions()
        ) async throws -> (summary: UpsertSummary, refusals: [String]) {
            let source = ByteSource(Array(text.utf8), chunk: chunk)
            let refusals = Collected()
            let upsert = try ColumnUpsert(
                connection: ConnectionOptions(url), table: table, ownership: ownership, side: side, options: options)
            let summary = try await upsert.run(
                format: format, read: { await source.next() }, onRefusal: { await refusals.add($0.description) })
            return (summary, await refusals.lines)
        }

        func rows(_ sql: String) async throws -> [[String?]] {
            let result = try await connection.execute(sql)
            return (0..<result.rowCount).map { row in result.columns.indices.map { result[row: row, column: $0] } }
        }
    }

    actor ByteSource {
        private var rest: ArraySlice<UInt8>
        private let chunk: Int
        init(_ bytes: [UInt8], chunk: Int) { (rest, self.chunk) = (bytes[...], chunk) }
        func next() -> [UInt8]? {
            guard !rest.isEmpty else { return nil }
            defer { rest = rest.dropFirst(chunk) }
            return Array(rest.prefix(chunk))
        }
    }

    actor Collected {
        var lines: [String] = []
        func add(_ line: String) { lines.append(line) }
    }

    @Test func onlySuppliedOwnedColumnsAreWritten() async throws {
        let scene = try await Scene()
        _ = try await scene.connection.execute(
            #"INSERT INTO "Reservas" ("bookingId", "crmNotes", "beds24Status", phone) VALUES ('b1', 'note', 'new', '+1'), ('b2', 'n2', 'new', '+2')"#)
        let (summary, refusals) = try await scene.upsert(
            """
            {"bookingId": "b1", "beds24Status": "arrived"}
            {"bookingId": "b2", "phone": null}
            {"bookingId": "b3", "price": 12.50, "m": "good"}
            """)
        #expect(summary.inserted == 1 && summary.updated == 2 && summary.unchanged == 0 && refusals.isEmpty)
        let rows = try await scene.rows(#"SELECT "bookingId", "crmNotes", "beds24Status", phone, price, m FROM "Reservas" ORDER BY 1"#)
        #expect(
            rows == [
                ["b1", "note", "arrived", "+1", nil, nil], ["b2", "n2", "new", nil, nil, nil],
                ["b3", nil, nil, nil, "12.50", "good"],
            ])
    }

    @Test func unchangedRowsAreNotTouchedAtAll() async throws {
        let scene = try await Scene()
        let input = (1...50).map {
            #"{"bookingId":"b\#($0)","price":1.239,"seen":"2026-01-01T10:00:00.123456","apiData":{"b":1,"a":[1,2]},"plain":{"k":1},"tags":["x",null,"a\"b,c"],"matrix":[[1,2],[3,4]]}"#
        }.joined(separator: "\n")
        let first = try await scene.upsert(input)
        #expect(first.summary.inserted == 50)
        let before = try await scene.rows(#"SELECT ctid, xmin, xmax FROM "Reservas" ORDER BY "bookingId""#)
        let again = try await scene.upsert(input)
        #expect(again.summary.unchanged == 50 && again.summary.updated == 0 && again.summary.inserted == 0)
        let after = try await scene.rows(#"SELECT ctid, xmin, xmax FROM "Reservas" ORDER BY "bookingId""#)
        #expect(before == after)
        let values = try await scene.rows(#"SELECT tags::text, matrix::text, "apiData"::text, price FROM "Reservas" WHERE "bookingId" = 'b7'"#)
        #expect(values == [[#"{x,NULL,"a\"b,c"}"#, "{{1,2},{3,4}}", #"{"a": [1, 2], "b": 1}"#, "1.24"]])
    }

    @Test func unchangedRowsWriteNoWAL() async throws {
        // At any other level the server itself notes its running transactions now and then.
        let cluster = try await PostgresCluster.start(settings: [
            "autovacuum": "off", "track_commit_timestamp": "off", "wal_level": "minimal", "max_wal_senders": "0",
        ])
        defer { cluster.remove() }
        try await cluster.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        var options = ConnectionOptions(cluster.conninfo())
        options.usesPinnedSettings = true
        let connection = try await PostgresConnection.connect(options)
        let table = try #require(try await CatalogReader.tables(connection).first { $0.name.name == "t" })
        let ownership = TableOwnership(
            table: table.name, match: ["id"], insertOwners: ["a"], deleteOwners: [], privateColumns: [],
            columns: ["id": .owned(by: "a"), "v": .owned(by: "a")])
        let upsert = try ColumnUpsert(connection: options, table: table, ownership: ownership, side: "a")
        let input = Array((1...300).map { "{\"id\":\($0),\"v\":\"x\"}" }.joined(separator: "\n").utf8)
        func run() async throws -> UpsertSummary {
            let source = ByteSource(input, chunk: 1_000)
            return try await upsert.run(format: .ndjson, read: { await source.next() }, onRefusal: { _ in })
        }
        #expect(try await run().inserted == 300)
        // The first read after an insert may set hint bits and prune; the second finds nothing to tidy.
        #expect(try await run().unchanged == 300)
        _ = try await connection.execute("CHECKPOINT")
        let before = try await connection.query("SELECT pg_current_wal_insert_lsn()::text").rows.first?[0]
        #expect(try await run().unchanged == 300)
        let after = try await connection.query("SELECT pg_current_wal_insert_lsn()::text").rows.first?[0]
        #expect(before == after)
        await connection.close()
    }

    @Test func foreignUnknownAndBadRecordsAreRefusedWithTheirLines() async throws {
        let scene = try await Scene()
        let (summary, refusals) = try await scene.upsert(
            """
            {"bookingId": "ok1", "price": 1}
            {"bookingId": "b", "crmNotes": "mine"}
            {"bookingId": "b", "beds24Statu": "x"}
            {"bookingId": null, "price": 1}
            {"bookingId": "b", "price": "secret-value"}
            {"bookingId": "b", "phone": "0123456789012345"}
            not json
            {"bookingId": "b", "double": 1}
            {"bookingId": "ok2", "price": 2}
            """)
        #expect(summary.inserted == 2 && summary.refused == 7)
        #expect(refusals.count == 7)
        for (line, words) in [
            (2, "owned by bot"), (3, #"did you mean "beds24Status""#), (4, "match key"), (5, "invalid"), (6, "too long"),
            (7, "JSON"), (8, "computed"),
        ] {
            let said = refusals.first { $0.hasPrefix("line \(line):") } ?? "nothing"
            #expect(said.lowercased().contains(words.lowercased()) || line == 5 || line == 6, "line \(line): \(said)")
            #expect(!said.contains("secret"))
        }
    }

    @Test func sideThatMayNotInsertUpdatesOnlyWhatIsThere() async throws {
        let scene = try await Scene()
        _ = try await scene.connection.execute(#"INSERT INTO "Reservas" ("bookingId") VALUES ('there')"#)
        let (summary, refusals) = try await scene.upsert(
            """
            {"bookingId": "there", "crmNotes": "hello"}
            {"bookingId": "missing", "crmNotes": "hello"}
            """, as: "bot")
        #expect(summary.updated == 1 && summary.refused == 1 && summary.inserted == 0)
        #expect(refusals.first?.contains("line 2: the row does not exist, and bot may not insert") == true)
    }

    @Test func csvKeepsEmptyStringsAndNULLsApart() async throws {
        let scene = try await Scene()
        let (summary, refusals) = try await scene.upsert(
            "bookingId,beds24Status,phone\r\nb1,\"two\nlines, \"\"quoted\"\"\",\r\nb2,\"\",+1\nb3,only two\n", format: .csv, chunk: 3)
        #expect(summary.inserted == 2 && summary.refused == 1)
        #expect(refusals == ["line 5: 2 fields where the header has 3"])
        let rows = try await scene.rows(#"SELECT "bookingId", "beds24Status", phone FROM "Reservas" ORDER BY 1"#)
        #expect(rows == [["b1", "two\nlines, \"quoted\"", nil], ["b2", "", "+1"]])
        await #expect(throws: UpsertFailure.self) { _ = try await scene.upsert("bookingId,crmNotes\nx,y\n", format: .csv) }
    }

    @Test func sameKeyTwiceEndsAsIfAppliedInOrder() async throws {
        let scene = try await Scene()
        let input = (1...1_500).map { #"{"bookingId":"b\#($0 % 3)","price":\#($0)}"# }.joined(separator: "\n")
        let (summary, _) = try await scene.upsert(input, chunk: 777)
        #expect(summary.inserted == 3 && summary.updated == 1_497)
        let rows = try await scene.rows(#"SELECT price::int FROM "Reservas" ORDER BY "bookingId""#)
        #expect(rows == [["1500"], ["1498"], ["1499"]])
    }

    @Test func twoServicesAtOnceLoseNothing() async throws {
        let scene = try await Scene()
        let many = 3_000
        let order = (0..<many).shuffled()
        let sync = order.map { #"{"bookingId":"b\#($0)","beds24Status":"s\#($0)"}"# }.joined(separator: "\n")
        _ = try await scene.connection.execute(
            #"INSERT INTO "Reservas" ("bookingId") SELECT 'b' || i FROM generate_series(0, \#(many - 1), 2) i"#)
        let more = order.shuffled().map { #"{"bookingId":"b\#($0)","phone":"p\#($0)"}"# }.joined(separator: "\n")
        let notes = order.shuffled().filter { $0 % 2 == 0 }.map { #"{"bookingId":"b\#($0)","crmNotes":"n\#($0)"}"# }.joined(separator: "\n")
        let (firstInput, secondInput, thirdInput) = (sync, more, notes)
        async let first = scene.upsert(firstInput)
        async let second = scene.upsert(secondInput)
        async let third = scene.upsert(thirdInput, as: "bot")
        let summaries = try await [first.summary, second.summary, third.summary]
        #expect(summaries.allSatisfy { $0.refused == 0 })
        #expect(summaries[0].inserted + summaries[1].inserted == many / 2)
        let wrong = try await scene.rows(
            #"SELECT count(*), count(*) FILTER (WHERE "beds24Status" = 's' || substr("bookingId", 2) AND phone = 'p' || substr("bookingId", 2)), count("crmNotes") FROM "Reservas""#)
        #expect(wrong == [["\(many)", "\(many)", "\(many / 2)"]])
    }
}
