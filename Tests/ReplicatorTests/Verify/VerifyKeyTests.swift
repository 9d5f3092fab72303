import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

/// Keys of every kind: whatever order they have, on whichever side, each row is compared once and found under its key.
@Suite struct VerifyKeyTests {
    /// Words whose order differs between byte order and every language's.
    private static let words = """
        SELECT w || n AS k FROM unnest(ARRAY['a', 'B', 'Á', 'z', 'Z', '_', ' ', '-', 'ñ', 'ab', 'Ab', 'a b', '€', '10', '9', '']) w,
        generate_series(1, 40) n
        """

    private func collation() async throws -> String {
        let found = try await PostgresCluster.shared("target").execute(
            "SELECT collname FROM pg_collation WHERE collname IN ('en-US-x-icu', 'C.utf8') ORDER BY collprovider = 'i' DESC, 1")
        return try #require(found.rows.first?[0])
    }

    @Test func textKeysAreComparedWhateverOrderEachSideHasThemIn() async throws {
        let other = try await collation()
        let pair = try await ReplicaPair(
            "CREATE TABLE public.word (k text COLLATE \"C\" PRIMARY KEY, v int)",
            targetSchema: "CREATE TABLE public.word (k text COLLATE \"\(other)\" PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.word SELECT k, 1 FROM (\(Self.words)) w", state)
            for jobs in [1, 3] {
                let report = try await pair.verify(chunkRows: 9, jobs: jobs)
                #expect(report.compared[QualifiedName(schema: "public", name: "word")]?.isOrderShared == false)
                #expect(report.words == [])
                #expect(report.tables.map(\.rows) == [640])
                #expect(report.tables.map(\.rechecked) == [0])
            }
            try await pair.plant("""
                UPDATE public.word SET v = 2 WHERE k IN ('B1', 'ñ40', '1'); DELETE FROM public.word WHERE k IN ('Á7', '_3');
                INSERT INTO public.word VALUES ('Ä', 1), ('', 1), ('zzz', 1), (' B1', 1)
                """)
            let expected = [
                "word  B1: extra", "word : extra", "word 1: changed v", "word B1: changed v", "word _3: missing",
                "word zzz: extra", "word Á7: missing", "word Ä: extra", "word ñ40: changed v",
            ]
            for chunkRows in [9, 1_000] {
                #expect(Set(try await pair.verify(chunkRows: chunkRows).words) == Set(expected))
            }
        }
    }

    @Test func keysOfSeveralColumnsAreWalkedByTheirIndex() async throws {
        let schema = """
            CREATE TABLE public.stay (hotel text COLLATE "C", night date, room int, guest text, PRIMARY KEY (night, hotel, room))
            """
        let pair = try await ReplicaPair(schema)
        try await pair.streaming { state in
            try await pair.apply("""
                INSERT INTO public.stay SELECT 'h' || h, date '2026-01-01' + d, r, 'x'
                FROM generate_series(1, 5) h, generate_series(1, 20) d, generate_series(1, 10) r
                """, state)
            let report = try await pair.verify(chunkRows: 17)
            #expect(report.words == [] && report.tables.map(\.rows) == [1_000])
            #expect(report.compared[QualifiedName(schema: "public", name: "stay")]?.isOrderShared == true)
            try await pair.plant("""
                UPDATE public.stay SET guest = 'y' WHERE (hotel, night, room) = ('h3', '2026-01-08', 4);
                DELETE FROM public.stay WHERE (hotel, night, room) = ('h5', '2026-01-21', 10);
                INSERT INTO public.stay VALUES ('h0', '2026-01-02', 0, NULL), ('h9', '9999-01-01', 1, NULL)
                """)
            #expect(try await pair.verify(chunkRows: 17).words == [
                "stay 2026-01-02|h0|0: extra", "stay 2026-01-08|h3|4: changed guest", "stay 2026-01-21|h5|10: missing",
                "stay 9999-01-01|h9|1: extra",
            ])
        }
    }

    @Test func keysOfEveryTypeFindTheirRows() async throws {
        let types = [
            "bigint": "n", "numeric": "n / 8.0", "uuid": "md5(n::text)::uuid", "timestamptz": "timestamptz '2026-01-01' + n * interval '1 us'",
            "bytea": "decode(md5(n::text), 'hex')", "boolean": "n > 50", "char(9)": "'c' || n", "varchar(12)": "'v''\"\\,{}' || n",
            "float8": "n / 7.0", "text[]": "ARRAY['a,\"{}\\', NULL, n::text]", "public.size": "('s' || n)::public.size",
            "jsonb": "jsonb_build_object('n', n)", "inet": "'10.0.0.0'::inet + n", "interval": "n * interval '1 minute'",
            "int4range": "int4range(n, n + 1)", "public.label": "('l' || n)::public.label", "date": "date '2026-01-01' + n",
        ].sorted { $0.key < $1.key }
        // The target made its labels in another order.
        func labels(_ order: some Sequence<Int>) -> String { order.map { "'s\($0)'" }.joined(separator: ", ") }
        let tables = types.enumerated().map { "CREATE TABLE public.t\($0) (k \($1.key) PRIMARY KEY, v text);" }.joined()
        let domain = "CREATE DOMAIN public.label AS text CHECK (VALUE <> 'no');"
        let pair = try await ReplicaPair(
            "CREATE TYPE public.size AS ENUM (\(labels(1...100))); \(domain) \(tables)",
            targetSchema: "CREATE TYPE public.size AS ENUM (\(labels((1...100).reversed()))); \(domain) \(tables)")
        try await pair.streaming { state in
            for (index, type) in types.enumerated() {
                let range = type.key == "boolean" ? "50, 51" : "1, 100"
                _ = try await pair.source.execute(
                    "INSERT INTO public.t\(index) SELECT \(type.value), 'x' FROM generate_series(\(range)) n")
            }
            try await pair.catchUp(state)
            let report = try await pair.verify(chunkRows: 7)
            #expect(report.words == [] && report.skipped == [])
            #expect(report.tables.count == types.count)
            for (index, type) in types.enumerated() {
                try await pair.plant("""
                    UPDATE public.t\(index) SET v = 'y' WHERE k = (SELECT k FROM public.t\(index) ORDER BY k LIMIT 1);
                    DELETE FROM public.t\(index) WHERE k = (SELECT k FROM public.t\(index) ORDER BY k DESC LIMIT 1)
                    """)
                let found = try await pair.verify(["t\(index)"], chunkRows: 7)
                #expect(found.tables.first?.differences.map(\.kind.rawValue).sorted() == ["changed", "missing"], "\(type.key)")
                try await RowRepair.with(pair.settings) { repair in
                    let scope = try #require(found.compared[QualifiedName(schema: "public", name: "t\(index)")])
                    for difference in found.tables[0].differences {
                        let outcome = try await repair.mend(difference.key, of: scope)
                        #expect(outcome == .mended, "\(outcome) of \(type.key)")
                    }
                }
            }
            #expect(try await pair.verify(chunkRows: 1_000).result == .equal)
        }
    }

    @Test func targetTypesThatAreWiderAreNoDifference() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE public.w (k int PRIMARY KEY, a int, b varchar(5), c text, d smallint)",
            targetSchema: "CREATE TABLE public.w (k bigint PRIMARY KEY, a numeric(10,2), b text, c char(8), d int, own text DEFAULT 'x')")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.w SELECT n, n, 'b' || n, 'c' || n, n FROM generate_series(1, 50) n", state)
            #expect(try await pair.verify(chunkRows: 7).words == [])
            try await pair.plant("UPDATE public.w SET a = 1.01 WHERE k = 1; UPDATE public.w SET c = 'c' WHERE k = 2")
            #expect(try await pair.verify(chunkRows: 7).words == ["w 1: changed a", "w 2: changed c"])
        }
    }

    @Test func tablesThatCannotBeComparedAreNamedAndNothingIsCalledEqual() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE public.a (v int); ALTER TABLE public.a REPLICA IDENTITY FULL; CREATE TABLE public.b (k int PRIMARY KEY, v int)",
            targetSchema: "CREATE TABLE public.a (v int); CREATE TABLE public.b (k int PRIMARY KEY)")
        _ = try await PostgresConnection.with(pair.settings.target) { try await Migrator(connection: $0).migrate() }
        try await pair.streaming { state in
            try await waitUntil("it streams") { state.phase == .streaming }
            let report = try await pair.verify()
            #expect(report.skipped == [
                .init(QualifiedName(schema: "public", name: "a"), .noKey),
                .init(QualifiedName(schema: "public", name: "b"), .missingColumns(["v"])),
            ])
            #expect(report.result == .undecided)
        }
    }

    @Test func onlyRowsAndColumnsThatAPublicationSendsAreCompared() async throws {
        try await PostgresCluster.shared("source").execute("SELECT 1")
        guard try await PostgresCluster.shared("source").version >= 15 else { return }
        let pair = try await ReplicaPair(
            "CREATE TABLE public.f (k int PRIMARY KEY, v int, secret text)",
            publication: "CREATE PUBLICATION p FOR TABLE public.f (k, v) WHERE (k > 10)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.f SELECT n, n, 'secret' FROM generate_series(1, 50) n", state)
            let report = try await pair.verify(chunkRows: 7)
            #expect(report.words == [] && report.tables.map(\.rows) == [40])
            try await pair.plant("INSERT INTO public.f VALUES (5, 5); UPDATE public.f SET secret = 'own' WHERE k = 20")
            #expect(try await pair.verify(chunkRows: 7).words == ["f 5: extra"])
        }
    }
}
