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
}
