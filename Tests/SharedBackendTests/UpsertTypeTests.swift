import PostgresClient
import TestSupport
import Testing

@testable import SharedBackend

/// Values of every kind of type are stored as PostgreSQL would store them, and compared by what is stored.
@Suite struct UpsertTypeTests {
    @Test func tooLongValuesAreRefusedNeverCut() async throws {
        let scene = try await UpsertTable(
            """
            CREATE DOMAIN short AS varchar(5); CREATE DOMAIN shorter AS short CHECK (VALUE <> 'no');
            CREATE DOMAIN padded AS char(4); CREATE DOMAIN flags AS bit(3); CREATE DOMAIN price AS numeric(6, 2);
            CREATE TABLE t (id int PRIMARY KEY, d short, e shorter, c padded, b flags, v varchar(5), w char(4), a varchar(3)[],
              x bit(3), y varbit(3), n price, l short[]);
            """)
        let columns = ["d", "e", "c", "b", "v", "w", "x", "y"]
        let long = columns.map { ["b", "x", "y"].contains($0) ? "1011" : "abcdefgh" }
        let lines = zip(columns, long).map { "{\"id\":1,\"\($0)\":\"\($1)\"}" }
            + [#"{"id":1,"a":["ok","abcd"]}"#, #"{"id":1,"n":12345.6}"#, #"{"id":1,"e":"no"}"#]
        // Against no row, then against a row that holds what a cut value would be.
        let none = try await scene.upsert(lines.joined(separator: "\n"))
        #expect(none.counts == [0, 0, 0, lines.count])
        _ = try await scene.connection.execute(
            "INSERT INTO t VALUES (1, 'abcde', 'abcde', 'abcd', '101', 'abcde', 'abcd', '{ok,abc}', '101', '101', 1.25)")
        let some = try await scene.upsert(lines.joined(separator: "\n"))
        #expect(some.counts == [0, 0, 0, lines.count])
        for (column, line) in zip(columns + ["a", "n", "e"], some.refusals) {
            #expect(line.contains("column \"\(column)\": "), "\(line)")
            #expect(!line.contains("abcd") && !line.contains("1011") && !line.contains("12345"))
        }
        let same = #"{"id":1,"d":"abcde","e":"abcde   ","c":"abcd ","b":"101","v":"abcde  ","w":"abcd","a":["ok","abc"],"x":"101","y":"101","n":1.251}"#
        #expect(try await scene.upsert(same).counts == [0, 0, 1, 0])
        #expect(try await scene.upsert(#"{"id":1,"d":"x","c":"y","w":"z","l":["abcde"]}"#).counts == [0, 1, 0, 0])
        #expect(try await scene.upsert(#"{"id":1,"d":"x","c":"y","w":"z","l":["abcde"]}"#).counts == [0, 0, 1, 0])
        #expect(try await scene.rows("SELECT d, e, c, w, n FROM t") == [["x", "abcde", "y   ", "z   ", "1.25"]])
    }

    @Test func partitionedTablesTakeUpserts() async throws {
        let scene = try await UpsertTable(
            """
            CREATE TABLE t (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
            CREATE TABLE t_old PARTITION OF t FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
            CREATE TABLE t_new PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
            INSERT INTO t VALUES (1, '2025-05-05', 'a'), (2, '2026-05-05', 'b')
            """, match: ["id", "day"])
        let outcome = try await scene.upsert(
            """
            {"id":1,"day":"2025-05-05","v":"changed"}
            {"id":2,"day":"2026-05-05","v":"b"}
            {"id":3,"day":"2026-06-06","v":"new"}
            {"id":4,"day":"2030-06-06","v":"no partition"}
            """)
        #expect(outcome.counts == [1, 1, 1, 1], "\(outcome.refusals)")
        #expect(outcome.refusals == ["line 4: no partition of the table takes it"])
        #expect(try await scene.rows("SELECT id, v FROM t ORDER BY 1") == [["1", "changed"], ["2", "b"], ["3", "new"]])
    }

    @Test func rowsThatAnotherSessionInsertedMeanwhileCountAsUpdatedInPartitionsToo() async throws {
        for partitioning in ["", "PARTITION BY HASH (id)"] {
            let scene = try await UpsertTable(
                "CREATE TABLE t (id int PRIMARY KEY, v text, w text) \(partitioning);"
                    + (partitioning.isEmpty ? "" : "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)"))
            let other = try await scene.lock("INSERT INTO t VALUES (1, 'other', 'kept'), (2, 'same', 'kept')")
            async let running = scene.upsert(
                "{\"id\":1,\"v\":\"mine\"}\n{\"id\":2,\"v\":\"same\"}\n{\"id\":3,\"v\":\"new\"}")
            try await scene.waitUntilBlocked()
            _ = try await other.execute("COMMIT")
            await other.close()
            #expect(try await running.counts == [1, 1, 1, 0])
            let rows = try await scene.rows("SELECT * FROM t ORDER BY 1")
            #expect(rows == [["1", "mine", "kept"], ["2", "same", "kept"], ["3", "new", nil]])
        }
    }

    @Test(
        .enabled("hstore and citext come with PostgreSQL's contrib, which this server was built without") {
            let found = try await PostgresCluster.shared("source").execute(
                "SELECT 1 FROM pg_available_extensions WHERE name IN ('hstore', 'citext')")
            return found.rowCount == 2
        })
    func typesWithOperatorsElsewhereAreCompared() async throws {
        let scene = try await UpsertTable(
            """
            CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
            CREATE TYPE pair AS (x int, y text);
            CREATE TABLE t (id ext.citext PRIMARY KEY, h ext.hstore, c ext.citext, p point, q pair, x xml, r int4range)
            """, mayInsert: false)
        _ = try await scene.connection.execute("INSERT INTO t (id) VALUES ('Ana')")
        let record = #"{"id":"ANA","h":"\"a\"=>\"1\"","c":"Word","p":"(1,2)","q":"(1,two)","x":"<a/>","r":"[1,5)"}"#
        #expect(try await scene.upsert(record).counts == [0, 1, 0, 0])
        #expect(try await scene.upsert(record).counts == [0, 0, 1, 0])
        #expect(try await scene.upsert(#"{"id":"ana","c":"WORD"}"#).counts == [0, 1, 0, 0])
        #expect(try await scene.rows("SELECT id, h, c, q FROM t") == [["Ana", #""a"=>"1""#, "WORD", "(1,two)"]])
    }

    @Test func valuesThatAreEqualButNotTheSameCountAsChanged() async throws {
        let scene = try await UpsertTable(
            "CREATE TABLE t (id int PRIMARY KEY, i interval, n numeric, f float8, z timetz, c text COLLATE \"C\");"
                + "INSERT INTO t VALUES (1, '1 month', 1.0, 0, '10:00+00', 'x')")
        for (column, value, printed) in [("i", "30 days", "30 days"), ("n", "1.00", "1.00"), ("f", "-0", "-0")] {
            #expect(try await scene.upsert("{\"id\":1,\"\(column)\":\"\(value)\"}").counts == [0, 1, 0, 0], "\(column)")
            #expect(try await scene.upsert("{\"id\":1,\"\(column)\":\"\(value)\"}").counts == [0, 0, 1, 0], "\(column)")
            #expect(try await scene.rows("SELECT \(column) FROM t") == [[printed]])
        }
    }

    @Test func keySpelledInTwoWaysEndsAsIfAppliedInOrder() async throws {
        let scene = try await UpsertTable(
            "CREATE TABLE t (id int, u uuid, v text, w text, at timestamp(3), PRIMARY KEY (id, u, at))", match: ["id", "u", "at"])
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        let outcome = try await scene.upsert(
            """
            {"id":10,"u":"\(id)","at":"2026-01-01 10:00:00.123456","v":"first","w":"kept"}
            {"id":"010","u":"\(id.uppercased())","at":"2026-01-01T10:00:00.123","v":"second"}
            {"id":11,"u":"\(id)","at":"2026-01-01","v":"other"}
            {"id":" 10","u":"{\(id)}","at":"2026-01-01 10:00:00.1230","w":"last"}
            {"id":"10","u":"\(id)","at":"2026-01-01 10:00:00.123","w":"last"}
            """)
        #expect(outcome.counts == [2, 2, 1, 0], "\(outcome.refusals)")
        let rows = try await scene.rows("SELECT id, v, w FROM t ORDER BY 1")
        #expect(rows == [["10", "second", "last"], ["11", "other", nil]])
        let ill = try await scene.upsert("{\"id\":\"x\",\"u\":\"\(id)\",\"at\":\"2026-01-01\"}\n{\"id\":12,\"u\":\"\(id)\",\"at\":\"2026-01-01\"}")
        #expect(ill.counts == [1, 0, 0, 1])
        #expect(ill.refusals == ["line 1: column \"id\": invalid_text_representation"])
    }
}
