import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Types beyond the everyday ones: those of extensions and users, those that name objects, every built-in one.
@Suite struct ReplicaTypeTests {
    static func hasExtensions(_ names: String...) async throws -> Bool {
        let list = names.map { "'\($0)'" }.joined(separator: ", ")
        let sql = "SELECT 1 FROM pg_available_extensions WHERE name IN (\(list))"
        for role in ["source", "target"] {
            if try await PostgresCluster.shared(role).execute(sql).rowCount < names.count { return false }
        }
        return true
    }

    @Test(
        .enabled("hstore and citext come with PostgreSQL's contrib, which this server was built without") {
            try await hasExtensions("hstore", "citext")
        })
    func hstoreAndCitextArrive() async throws {
        // The OIDs of the extensions' types differ between the servers.
        let schema = """
            CREATE EXTENSION hstore; CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more;
            CREATE TABLE e (name more.citext PRIMARY KEY, h hstore, hs hstore[], cs more.citext[]);
            """
        let pair = try await ReplicaPair(schema, targetSchema: "CREATE TYPE before AS (a int); " + schema)
        try await pair.streaming { state in
            try await pair.apply(
                #"""
                INSERT INTO e VALUES ('Ana', 'a=>1, "q\"u o"=>NULL, "=>"=>""', ARRAY['k=>v'::hstore, NULL, ''], '{"A b",NULL,"c,D"}'),
                  ('BEA', '', '{}', NULL), ('ç', NULL, NULL, '{}');
                UPDATE e SET h = h || 'z=>"\\"' WHERE name = 'ANA'; UPDATE e SET name = 'bea' WHERE name = 'BEA';
                DELETE FROM e WHERE name = 'Ç';
                """#, state)
            try await pair.expectSame("SELECT e::text FROM e ORDER BY name", atLeast: 2)
            try await pair.apply("UPDATE e SET name = 'Bea', h = 'n=>1' WHERE name = 'bea'; DELETE FROM e WHERE name = 'ana'", state)
            try await pair.expectSame("SELECT e::text FROM e")
        }
    }

    @Test func arraysOfUserTypesArrive() async throws {
        let types = """
            CREATE SCHEMA "T ypes"; CREATE TYPE "T ypes"."Mo od" AS ENUM ('sad', 'it''s "ok", {}', 'NULL', '');
            CREATE DOMAIN small AS int CHECK (VALUE < 100); CREATE DOMAIN tags AS text[] CHECK (array_length(VALUE, 1) < 9);
            CREATE TYPE span AS RANGE (SUBTYPE = float8); CREATE TYPE pair AS (a small, "b B" "T ypes"."Mo od", c text);
            CREATE TYPE nested AS (p pair, ps pair[]);
            CREATE TABLE a (id small PRIMARY KEY, es "T ypes"."Mo od"[], ds small[], dt tags, r span, rs span[], mr span_multirange,
              mrs int8multirange[], ps pair[], n nested, ns nested[], e2 "T ypes"."Mo od"[][] );
            """
        let pair = try await ReplicaPair(types, targetSchema: "CREATE TYPE before AS ENUM ('x'); " + types)
        try await pair.streaming { state in
            try await pair.apply(
                #"""
                INSERT INTO a VALUES
                  (1, ARRAY['sad', NULL, 'it''s "ok", {}', 'NULL', '']::"T ypes"."Mo od"[], '[-1:1]={1,NULL,99}', '{a,"b,c"}', '[1.5,)', '{"[1,2)",empty}',
                   '{[1,2),[3,4)}', '{"{[1,3),[5,9)}","{}",NULL}', ARRAY[ROW(1, 'sad', 'x,"y')::pair, NULL, ROW(NULL, NULL, '')::pair],
                   ROW(ROW(2, '', NULL), ARRAY[ROW(3, 'NULL', ' ')::pair]), ARRAY[ROW(NULL, '{NULL}')::nested], '{{sad,NULL},{"NULL",""}}'),
                  (2, '{}', '{}', '{}', 'empty', '{}', '{}', '{}', '{}', NULL, '{}', NULL), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
                UPDATE a SET es = array_append(es, 'sad'), ps = '{}' WHERE id = 1; UPDATE a SET rs = '{"(,)"}' WHERE id = 3; DELETE FROM a WHERE id = 2;
                """#, state)
            try await pair.expectSame("SELECT a::text FROM a ORDER BY id", atLeast: 2)
        }
    }

    /// Built-in types that an everyday table lacks, with awkward values.
    private static let builtIn = """
        CREATE TABLE b (id uuid PRIMARY KEY, m8 macaddr8, ttz timetz, ls lseg, pa path, po polygon, ci circle, li line, jp jsonpath,
          x xid, x8 xid8, c cid, sn pg_snapshot, tid tid, mr nummultirange, mt tstzmultirange, md datemultirange, ts tstzrange, dr daterange,
          tr tsrange, i8 int8range, us uuid[], js jsonb[], tt timetz[], bits bit(3)[], vb varbit(7)[], nm name[], mo money[], bs bytea[], pts point[],
          bx box[], iv interval[], ts2 tsvector[], cc "char"[], bp char(4)[], vc varchar(5)[], bo bool[], cidrs cidr[],
          bl bit varying(9), sm smallint[], f real[], days date[], stamps timestamp[]);
        """

    private static let builtInRows = #"""
        INSERT INTO b VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '08:00:2b:01:02:03:04:05', '00:00:00-15:59:59', '[(0,0),(1e300,-0)]',
          '[(0,0),(1,1),(2,0)]', '((0,0),(0,1),(1,1))', '<(0.1,0.2),3>', '{1,-1,0.5}', '$.a[*] ? (@ > 1)', '4294967295', '18446744073709551615', '7',
          '10:20:10,14,15', '(4,2)', '{(,1.5],[3,NaN]}', '{[-infinity,infinity]}', '{[0044-03-15 BC,2026-01-01)}', '(,"2026-03-29 02:30 Europe/Madrid")',
          'empty', '[4713-01-01 BC,infinity]', '[-9223372036854775808,)', '{00000000-0000-0000-0000-000000000000,NULL}', ARRAY['{"a": "\u00e9\\\""}', 'null', NULL]::jsonb[],
          '{24:00:00+00,NULL}', '{101,000}', '{1,"",NULL}', '{"a b",NULL}', ARRAY['1.5'::money, '-2.25'::money], ARRAY['\x00ff', '', NULL]::bytea[], '{"(1,2)",NULL}', '{(1,1),(0,0)}',
          '{"1 mon -1 days -00:00:00.000001",NULL}', ARRAY['a:1A b', '']::tsvector[], '{x,NULL,"\""}', '{ab,"  "}', '{"",abcde}', '{t,NULL,f}',
          '{10/8,::/0}', '', '{{{-32768}}}', '{NaN,-0,Infinity}', '{infinity,"4713-01-01 BC"}', '{-infinity,"294276-12-31 23:59:59.999999"}');
        INSERT INTO b (id) VALUES ('00000000-0000-0000-0000-000000000000');
        UPDATE b SET m8 = NULL, jp = 'strict $' WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';
        UPDATE b SET us = '{}', sm = '{1}' WHERE x IS NULL;
        """#

    @Test(arguments: [true, false]) func everyFurtherBuiltInTypeArrives(binary: Bool) async throws {
        let pair = try await ReplicaPair(Self.builtIn + (binary ? "" : ReplicaPair.textStream))
        try await pair.streaming { state in
            try await pair.apply(Self.builtInRows, state)
            #expect(try await pair.streamsBinary() == binary)
            try await pair.expectSame("SELECT b::text FROM b ORDER BY id", atLeast: 2)
        }
    }

    /// An empty oidvector is sent in a binary form that PostgreSQL itself refuses to read.
    @Test func namesOfObjectsAndVectorsKeepTheirMeaning() async throws {
        let schema = "CREATE TABLE r (id int PRIMARY KEY, c regclass, t regtype, p regprocedure, ns regnamespace, cs regclass[], ov oidvector, iv int2vector);"
        let pair = try await ReplicaPair(schema, targetSchema: "CREATE TABLE before (id serial PRIMARY KEY); " + schema)
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO r VALUES (1, 'r', 'r', 'lower(text)', 'public', '{r,pg_class}', '1 4294967295', '1 -2'), (2, 'pg_class', 'int', 0, NULL, '{}', '', '')", state)
            try await pair.expectSame("SELECT r::text FROM r ORDER BY id", atLeast: 2)
        }
    }

    /// A value may be the name of an object that only the source has, and an error quotes it.
    @Test func aValueThatNamesNothingOnTheTargetIsNotQuoted() async throws {
        let pair = try await ReplicaPair("CREATE TABLE r (id int PRIMARY KEY, c regclass)")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams") { state.phase == .streaming }
        _ = try await pair.source.execute("CREATE TABLE private_name (); INSERT INTO r VALUES (1, 'private_name')")
        let failure = try #require(await #expect(throws: ReplicationFailure.self) { try await running.value })
        let said = "\(failure)" + (state.snapshot().problem ?? "")
        #expect(said.contains("42P01") && !said.contains("private_name"), "\(said)")
    }

    /// The stream has one format, and a composite makes it text: that must not cost the other tables their statements of
    /// many rows. Rows that one statement wrote share a command number.
    @Test func compositesLeaveAllTablesTheirBulkStatements() async throws {
        let pair = try await ReplicaPair(
            "CREATE TYPE pair AS (a int, b text); CREATE TABLE c (id int PRIMARY KEY, p pair); CREATE TABLE t (id int PRIMARY KEY, v numeric(9, 2), w varchar(8), d date[])")
        try await pair.streaming { state in
            try await pair.apply(
                """
                BEGIN; INSERT INTO c SELECT i, ROW(i, 'x')::pair FROM generate_series(1, 500) i;
                INSERT INTO t SELECT i, i, 'w' || i, '{2026-01-01}' FROM generate_series(1, 500) i; COMMIT;
                """, state)
            #expect(try await pair.streamsBinary() == false)
            let commands = try await pair.rows(
                "SELECT count(DISTINCT cmin::text) FROM t UNION ALL SELECT count(DISTINCT cmin::text) FROM c", on: pair.target)
            #expect(commands == [["1"], ["1"]])
            try await pair.apply("UPDATE t SET v = -v, w = NULL; UPDATE c SET p = ROW(NULL, w)::pair FROM t WHERE t.id = c.id; DELETE FROM t WHERE id > 400", state)
            try await pair.expectSame("SELECT t::text, c::text FROM t JOIN c USING (id) ORDER BY id", atLeast: 400)
            #expect(state.snapshot().counters.fallbacks == 0)
        }
    }

    @Test func tablesThatCannotTravelInBinaryMayComeUnderABinaryStream() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            #expect(try await pair.streamsBinary())
            _ = try await pair.target.execute(
                "CREATE TYPE before AS (a int); CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE m (id bigint PRIMARY KEY, ms mood[])")
            try await pair.apply(
                """
                CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE m (id int PRIMARY KEY, ms mood[]);
                BEGIN; UPDATE t SET v = 2; INSERT INTO m VALUES (1, '{sad,NULL}'); UPDATE t SET v = v + 1; COMMIT;
                """, state)
            try await pair.expectSame("SELECT t::text, m::text FROM t, m")
            #expect(try await !pair.streamsBinary())
        }
    }

    /// An explicit cast would cut it to fit; an assignment must refuse.
    /// Their `=` is not among those that a session finds without a search path, and text's would find citext's row by no index.
    @Test(
        .enabled("ltree and citext come with PostgreSQL's contrib, which this server was built without") {
            let found = try await PostgresCluster.shared("source").execute(
                "SELECT 1 FROM pg_available_extensions WHERE name IN ('ltree', 'citext')")
            return found.rowCount == 2
        })
    func keysOfAnExtensionsTypeAreFoundByTheirIndex() async throws {
        let schema = """
            CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
            CREATE DOMAIN mail AS ext.citext;
            CREATE TABLE place (id ext.ltree PRIMARY KEY, v int); CREATE TABLE guest (id mail PRIMARY KEY, v int)
            """
        let pair = try await ReplicaPair(schema)
        try await pair.streaming { state in
            for table in ["place", "guest"] {
                try await pair.apply("INSERT INTO \(table) SELECT ('a' || i)::ext.\(table == "place" ? "ltree" : "citext"), 0 "
                    + "FROM generate_series(1, 2000) i", state)
                try await pair.apply("UPDATE \(table) SET v = 1", state)
                try await pair.apply("UPDATE \(table) SET v = 2 WHERE id::text = 'a7'; DELETE FROM \(table) WHERE id::text = 'a9'", state)
                try await pair.apply("DELETE FROM \(table) WHERE v = 1 AND id::text LIKE 'a1%'", state)
                try await pair.expectSame("SELECT id::text, v FROM \(table) ORDER BY 1", atLeast: 800)
            }
        }
        try await waitUntil("the index was used") {
            try await pair.rows(
                "SELECT 1 FROM pg_stat_user_indexes WHERE indexrelname IN ('place_pkey', 'guest_pkey') AND idx_scan > 1",
                on: pair.target).count == 2
        }
    }

    @Test func valueTooLongForTheTargetIsRefusedNotCut() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY, v varchar(20), b varbit);" + ReplicaPair.textStream,
            targetSchema: "CREATE TABLE t (id int PRIMARY KEY, v varchar(5), b varbit(3));" + ReplicaPair.textStream)
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 'short', B'101'), (2, 'ab', B'')", state)
        _ = try await pair.source.execute("UPDATE t SET v = 'much too long' WHERE id = 2")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .changeRefused)
        try await #expect(pair.rows("SELECT v FROM t ORDER BY id", on: pair.target) == [["short"], ["ab"]])
    }
}

extension ReplicaPair {
    /// A published table whose composite column makes the whole stream text.
    static let textStream = " CREATE TYPE texts AS (a int); CREATE TABLE makes_text (id int PRIMARY KEY, p texts);"

    /// Whether the running stream carries binary values, as the source's walsender was asked.
    func streamsBinary() async throws -> Bool {
        let sql = "SELECT query FROM pg_stat_activity WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(slot)')"
        let command = try await source.execute(sql).rows.first?[0] ?? ""
        #expect(command.contains("START_REPLICATION"))
        return command.contains("\"binary\" 'true'")
    }
}
