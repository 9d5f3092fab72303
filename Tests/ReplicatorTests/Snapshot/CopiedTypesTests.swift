import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Types of the source's own, made on a target that has none of them.
@Suite struct CopiedTypesTests {
    @Test func domainsOverArraysAreMadeAfterTheirElements() async throws {
        let pair = try await FreshPair(
            """
            CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN small AS int CHECK (VALUE < 100);
            CREATE TYPE pair AS (a small, m other.mood);
            CREATE DOMAIN tags AS text[] CHECK (array_length(VALUE, 1) < 9); CREATE DOMAIN "Short tags" AS tags NOT NULL;
            CREATE DOMAIN moods AS other.mood[]; CREATE DOMAIN pairs AS pair[]; CREATE TYPE holder AS (ps pairs, ts tags);
            CREATE TABLE t (id int PRIMARY KEY, ts tags, st "Short tags" DEFAULT '{}', ms moods, h holder);
            INSERT INTO t VALUES (1, '{a,NULL}', '{b}', '{sad,glad}', ROW(ARRAY[ROW(1, 'sad')::pair], '{c}')), (2, NULL, '{}', NULL, NULL);
            """)
        try await pair.sync()
        try await pair.expectSame("SELECT t::text FROM t ORDER BY id")
        try await pair.expectSame(
            "SELECT domain_schema, domain_name, udt_schema, udt_name, (SELECT typnotnull FROM pg_type WHERE typname = domain_name) "
                + "FROM information_schema.domains WHERE domain_schema IN ('public', 'other') ORDER BY 1, 2")
        await #expect(throws: (any Error).self) { try await pair.target.execute("SELECT array_fill('x'::text, '{9}')::tags") }
    }

    /// The builds of 16 and 18 that the tests use come without ICU.
    private static let hasICU = PostgresBinaries.defaultVersion == 15
    private static let folding =
        "CREATE COLLATION folding "
        + (hasICU ? "(PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false)" : "(LOCALE = 'POSIX')")

    @Test func typesKeepTheirCollationsAndRangesTheirOrder() async throws {
        let pair = try await FreshPair(
            """
            CREATE SCHEMA sorts; CREATE COLLATION sorts."Plain" (LOCALE = 'C'); \(Self.folding);
            CREATE COLLATION indexed FROM "C"; CREATE COLLATION checked FROM "POSIX"; CREATE COLLATION unused FROM "C";
            CREATE DOMAIN code AS text COLLATE "C"; CREATE DOMAIN mail AS text COLLATE folding; CREATE DOMAIN more AS mail CHECK (VALUE COLLATE checked > '');
            CREATE TYPE named AS (n text COLLATE sorts."Plain", c code);
            CREATE TYPE words AS RANGE (SUBTYPE = text, SUBTYPE_OPCLASS = text_pattern_ops, COLLATION = "C", MULTIRANGE_TYPE_NAME = sorts."Many words");
            CREATE TYPE days AS RANGE (SUBTYPE = date);
            CREATE TABLE t (id int PRIMARY KEY, c code, m more UNIQUE, n named, w words, ws sorts."Many words", d days, p text COLLATE sorts."Plain");
            CREATE INDEX ON t (p COLLATE indexed);
            INSERT INTO t VALUES (1, 'a', 'A@b', ROW('x', 'y'), '[B,a)', '{[B,a)}', '[2026-01-01,2026-01-02)', 'p');
            """)
        try await pair.sync()
        try await pair.expectSame("SELECT t::text FROM t")
        try await pair.expectSame(
            "SELECT typname, typcollation::regcollation::text FROM pg_type WHERE typname IN ('code', 'mail', 'more') ORDER BY 1")
        try await pair.expectSame(
            "SELECT attname, attcollation::regcollation::text FROM pg_attribute WHERE attrelid IN ('named'::regclass, 't'::regclass) AND attnum > 0 ORDER BY attrelid::regclass::text, attnum")
        try await pair.expectSame(
            """
            SELECT rngtypid::regtype::text, rngmultitypid::regtype::text, opcname, rngcollation::regcollation::text FROM pg_range
            JOIN pg_opclass c ON c.oid = rngsubopc WHERE rngtypid >= 16384 ORDER BY 1
            """)
        try await pair.expectSame("SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY 1")
        try await pair.expectSame(
            "SELECT collname, collprovider, collisdeterministic, collcollate FROM pg_collation WHERE oid >= 16384 AND collname <> 'unused' ORDER BY 1")
        try await #expect(pair.rows("SELECT 1 FROM pg_collation WHERE collname = 'unused'", on: pair.target).isEmpty)
        guard Self.hasICU else { return }
        await #expect(throws: (any Error).self) { try await pair.target.execute("INSERT INTO t (id, m) VALUES (2, 'a@B')") }
    }
}
