import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Values that must arrive exactly as they are, through the binary and the text stream.
@Suite struct ReplicaValueTests {
    /// The builds of 16 and 18 that the tests use know no xml.
    static let xml = PostgresBinaries.defaultVersion == 15 ? "xml" : "text"

    /// A column for each type and rows of awkward values.
    static func types(isBinary: Bool) -> String {
        // An array of a user's type makes the whole stream text.
        let moods = isBinary ? "text[]" : "mood[]"
        return """
        CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'Happy');
        CREATE DOMAIN short AS varchar(10);
        CREATE TABLE v (
          id int PRIMARY KEY, b bool, c "char", s smallint, l bigint, f4 real, f8 double precision, n numeric, n2 numeric(20, 4),
          m money, t text, vc varchar(30), ch char(8), nm name, by bytea, d date, tm time, ttz timetz, ts timestamp,
          tstz timestamptz, iv interval, u uuid, j json, jb jsonb, ip inet, net cidr, mac macaddr, bt bit(5), vb bit varying,
          pt point, bx box, ln pg_lsn, x \(xml), tv tsvector, tq tsquery, e mood, dm short, r int4range, nr numrange,
          mr int4multirange, ai int[], at text[], ae \(moods), an numeric[], o oid);
        """
    }

    static let rows = """
        INSERT INTO v (id, b, c, s, l, f4, f8, n, n2, m, t, vc, ch, nm, by, d, tm, ttz, ts, tstz, iv, u, j, jb, ip, net, mac, bt, vb,
          pt, bx, ln, x, tv, tq, e, dm, r, nr, mr, ai, at, ae, an, o) VALUES
        (1, true, 'x', -32768, 9223372036854775807, 'NaN', '-0', 'NaN', 1234.5678, 12.34, E'tab\\t nl\\n q'' b\\\\ \\x01', 'v', 'c', 'n',
         '\\x00ff10', 'infinity', '24:00:00', '23:59:59.999999+14', 'infinity', '-infinity', '1 mon -3 days 04:05:06.789',
         '00000000-0000-0000-0000-000000000001', '{"a" : 1,  "a":2}', '{"k": [1, null, "q\\"u"]}', '::1/64', '10.0.0.0/8',
         '08:00:2b:01:02:03', B'10101', B'1', '(1.5,-2)', '((1,2),(3,4))', '16/B374D848', '<a>é</a>', 'fat:2 cat:3A', 'fat & !rat',
         'it''s "ok"', 'dom', '[1,10)', '(,5]', '{[1,3),[5,7)}', '[0:2]={1,NULL,3}', '{"a,b","q\\"",NULL,""}', '{sad,Happy}', '{1.10,NaN}', 4294967295),
        (2, NULL, NULL, NULL, NULL, 'Infinity', '-Infinity', 'Infinity', NULL, NULL, '', '', '', '', '', '0044-03-15 BC', '00:00',
         '00:00-12', '4713-01-01 00:00 BC', '0001-01-01 00:00:00+00 BC', '-178000000 years', NULL, 'null', 'null', '10.1.2.3', '::/0', NULL,
         NULL, B'', NULL, NULL, NULL, NULL, '', NULL, 'sad', '', 'empty', 'empty', '{}', '{}', '{}', '{}', '{}', 0),
        (3, false, 'z', 0, 0, 1.17549435e-38, 5e-324, 1e-1000, -0.0001, -1, repeat('long ', 5000), NULL, NULL, NULL,
         decode(repeat('ab', 9000), 'hex'), '5874897-12-31', NULL, NULL, '294276-12-31 23:59:59.999999', '2026-03-29 02:30:00 Europe/Madrid',
         '0', 'ffffffff-ffff-ffff-ffff-ffffffffffff', NULL, ('{"big":"' || repeat('x', 9000) || '"}')::jsonb, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{{1,2},{3,4}}', NULL, NULL, NULL, NULL);
        UPDATE v SET s = 7, e = 'Happy', jb = '{"z": 1}' WHERE id = 2;
        UPDATE v SET b = NOT b WHERE id = 3;
        """

    @Test(arguments: [true, false]) func everyTypeRoundTripsExactly(binary: Bool) async throws {
        // A composite in a published table makes the whole stream text.
        let extra = binary ? "" : "CREATE TYPE pair AS (a int, b text); CREATE TABLE composite (id int PRIMARY KEY, p pair, ps pair[]);"
        let pair = try await ReplicaPair(Self.types(isBinary: binary) + extra)
        try await pair.streaming { state in
            try await pair.apply(Self.rows, state)
            #expect(try await pair.streamsBinary() == binary)
            try await pair.expectSame("SELECT v::text FROM v ORDER BY id", atLeast: 3)
            try await pair.apply("DELETE FROM v WHERE id = 1", state)
            try await pair.expectSame("SELECT v::text FROM v ORDER BY id", atLeast: 2)
            if !binary {
                try await pair.apply(
                    #"INSERT INTO composite VALUES (1, ROW(1, 'a "b", c'), ARRAY[ROW(2, NULL)::pair]); UPDATE composite SET p = ROW(NULL, '') WHERE id = 1"#,
                    state)
                try await pair.expectSame("SELECT c::text FROM composite c")
            }
        }
    }

    @Test func serversMayDisagreeOnEverySessionSetting() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TYPE pair AS (a int, b text);
            CREATE TABLE s (id int PRIMARY KEY, ts timestamptz, iv interval, f float8, by bytea, x \(Self.xml), p pair, a text[], m money);
            """)
        let names = (
            try await pair.rows("SELECT current_database()", on: pair.source)[0][0] ?? "",
            try await pair.rows("SELECT current_database()", on: pair.target)[0][0] ?? ""
        )
        for setting in [
            "datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "timezone = 'Asia/Tokyo'", "extra_float_digits = 0",
            "bytea_output = 'escape'", "search_path = 'nowhere'",
        ] { _ = try await pair.source.execute("ALTER DATABASE \"\(names.0)\" SET \(setting)") }
        for setting in [
            "datestyle = 'German'", "intervalstyle = 'sql_standard'", "timezone = 'America/Lima'", "xmloption = 'document'",
            "array_nulls = off",
            "default_transaction_read_only = on", "default_transaction_isolation = 'serializable'", "statement_timeout = '2s'",
            "search_path = 'elsewhere'", "session_replication_role = 'origin'",
        ] { _ = try await pair.target.execute("ALTER DATABASE \"\(names.1)\" SET \(setting)") }
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO public.s VALUES (1, '2026-02-03 04:05:06.7+00', '1 year 2 days -3:04', 0.1::float8 + 0.2, '\\x00017f', 'just text', ROW(1, 'x'), '{NULL,"NULL"}', 12.34);
                UPDATE public.s SET f = 1/3.0 WHERE id = 1;
                """, state)
            try await pair.expectSame("SELECT extract(epoch FROM ts), extract(epoch FROM iv), f::numeric, encode(by, 'hex'), x::text, p::text, array_to_json(a), m::numeric FROM public.s")
        }
    }

    @Test func hugeRowsArrive() async throws {
        let pair = try await ReplicaPair("CREATE TABLE big (id int PRIMARY KEY, t text, b bytea);")
        try await pair.streaming { state in
            _ = try await pair.source.execute(
                "INSERT INTO big SELECT 1, repeat('0123456789', 10000000), decode(repeat('00ff', 5000000), 'hex')")
            try await pair.catchUp(state, timeoutSeconds: 90)
            try await pair.expectSame("SELECT id, length(t), md5(t), length(b), md5(b) FROM big")
        }
    }

    @Test func namesInAnyScriptAndQuotingArrive() async throws {
        let long = String(repeating: "n", count: 63)
        let pair = try await ReplicaPair(
            """
            CREATE SCHEMA "Sch ""é";
            CREATE TABLE "Sch ""é"."select" ("from" int PRIMARY KEY, "it's" text, "\(long)" int, "a.b" int, "Ünïcode ☃" text);
            CREATE TABLE "\(long)" ("Id" int PRIMARY KEY);
            """)
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO "Sch ""é"."select" VALUES (1, 'x', 2, 3, '☃'), (2, 'y', 3, 4, 'z');
                UPDATE "Sch ""é"."select" SET "it's" = 'changed', "\(long)" = 9 WHERE "from" = 1;
                DELETE FROM "Sch ""é"."select" WHERE "from" = 2; INSERT INTO "\(long)" VALUES (1);
                """, state)
            try await pair.expectSame("SELECT * FROM \"Sch \"\"é\".\"select\" ORDER BY 1")
            try await pair.expectSame("SELECT * FROM \"\(long)\"")
        }
    }
}
