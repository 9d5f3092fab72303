import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

/// Tables, names and databases of unusual shapes, and differences in unusual numbers.
@Suite struct VerifyShapeTests {
    @Test func partitionsAreComparedAndMendedThroughTheirRoot() async throws {
        let columns = "id int NOT NULL, at date NOT NULL, v text, PRIMARY KEY (id, at)"
        let pair = try await ReplicaPair(
            """
            CREATE TABLE public.log (\(columns)) PARTITION BY RANGE (at);
            CREATE TABLE public.log_1 PARTITION OF public.log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
            CREATE TABLE public.log_2 PARTITION OF public.log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
            """,
            targetSchema: """
                CREATE TABLE public.log (\(columns)) PARTITION BY HASH (id);
                CREATE TABLE public.log_a PARTITION OF public.log FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                CREATE TABLE public.log_b PARTITION OF public.log FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                """)
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO public.log SELECT n, date '2026-01-01' + n % 59, 'v' || n FROM generate_series(1, 500) n", state)
            let before = try await pair.verify(chunkRows: 60)
            #expect(before.words == [] && before.tables.map(\.rows) == [500])
            try await pair.plant("""
                UPDATE public.log SET v = 'x' WHERE id = 3; DELETE FROM public.log WHERE id = 4;
                INSERT INTO public.log VALUES (9000, '2099-01-01', 'y')
                """)
            let report = try await pair.verify(chunkRows: 60)
            #expect(report.words == ["log 3|2026-01-04: changed v", "log 4|2026-01-05: missing", "log 9000|2099-01-01: extra"])
            try await RowRepair.with(pair.settings) { repair in
                let scope = try #require(report.compared.values.first)
                for difference in report.tables[0].differences {
                    let outcome = try await repair.mend(difference.key, of: scope)
                    #expect(outcome == .mended, "\(outcome)")
                }
            }
            #expect(try await pair.verify(chunkRows: 60).result == .equal)
        }
    }

    @Test func namesOfAnyKindAreQuoted() async throws {
        let table = "Tábla \"x\".y'z"
        let quoted = SQLText.identifier(table)
        let pair = try await ReplicaPair("""
            CREATE SCHEMA "Odd"; CREATE TABLE "Odd".\(quoted) ("lindero_n" int, "lindero_k0" text, "select" text, "Größe" text,
              "lindero_row" int, PRIMARY KEY ("lindero_k0", "lindero_n"));
            CREATE TABLE public.empty (id int PRIMARY KEY);
            """)
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO \"Odd\".\(quoted) SELECT n, 'k''\"' || n, 'a', 'b', n FROM generate_series(1, 50) n", state)
            #expect(try await pair.verify(chunkRows: 7).words == [])
            try await pair.plant("UPDATE \"Odd\".\(quoted) SET \"Größe\" = 'c', lindero_row = 0 WHERE lindero_n = 9")
            let report = try await pair.verify(chunkRows: 7)
            #expect(report.words == ["Odd.\(table) k'\"9|9: changed Größe lindero_row"])
            #expect(report.tables.map(\.rows).sorted() == [0, 50])
            try await RowRepair.with(pair.settings) { repair in
                let name = QualifiedName(schema: "Odd", name: table)
                let found = try #require(report.tables.first { $0.table == name }?.differences.first)
                let scope = try #require(report.compared[name])
                let outcome = try await repair.mend(found.key, of: scope)
                #expect(outcome == .mended, "\(outcome)")
            }
            #expect(try await pair.verify().result == .equal)
        }
    }

    /// More rows than a stretch holds, all in one: where the source has nothing at all.
    @Test(arguments: ["C", "default"])
    func manyDifferencesAreCountedAndTheFirstAreListed(_ collation: String) async throws {
        let schema = "CREATE TABLE public.t (k text COLLATE \"\(collation)\" PRIMARY KEY, v int)"
        // Another collation on the target: without a common order.
        let pair = try await ReplicaPair(schema, targetSchema: "CREATE TABLE public.t (k text COLLATE \"C\" PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.t SELECT 'a' || n, n FROM generate_series(1, 1000) n", state)
            try await pair.plant("""
                INSERT INTO public.t SELECT 'z' || n, n FROM generate_series(1, 4000) n;
                UPDATE public.t SET v = -1 WHERE k < 'a2'
                """)
            let changed = try #require(
                try await pair.target.query("SELECT count(*)::text FROM public.t WHERE v = -1").firstValue.flatMap { Int($0) })
            for chunkRows in [50, 100_000] {
                let report = try await pair.verify(chunkRows: chunkRows, jobs: 2)
                #expect(report.differenceCount == 4_000 + changed)
                #expect(report.tables[0].differences.count == VerifyStore.listedDifferences)
                #expect(report.tables[0].rows == 1_000)
            }
        }
    }

    @Test func databasesOfDifferentEncodingsAreComparedByTheirCharacters() async throws {
        let cluster = try await PostgresCluster.shared("target")
        let name = "latin_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try await cluster.execute("CREATE DATABASE \(name) ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        let schema = "CREATE TABLE public.guest (k text COLLATE \"C\" PRIMARY KEY, v text)"
        let pair = try await ReplicaPair(schema, targetURL: cluster.conninfo(database: name))
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO public.guest SELECT 'ñandú ' || n, 'Größe ' || n FROM generate_series(1, 200) n", state)
            #expect(try await pair.verify(chunkRows: 17).words == [])
            try await pair.plant("UPDATE public.guest SET v = 'Grösse' WHERE k = 'ñandú 7'; DELETE FROM public.guest WHERE k = 'ñandú 8'")
            #expect(try await pair.verify(chunkRows: 17).words == ["guest ñandú 7: changed v", "guest ñandú 8: missing"])
        }
    }

    @Test func keyThatIsEqualButSpeltOtherwiseIsADifferenceOfThatRow() async throws {
        let cluster = try await PostgresCluster.shared("target")
        guard try await cluster.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-US-x-icu'").rowCount > 0 else { return }
        let loose = "CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        let schema = "CREATE TABLE public.w (k text COLLATE public.loose PRIMARY KEY, v int)"
        let pair = try await ReplicaPair(loose + schema)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.w SELECT 'ana' || n, 1 FROM generate_series(1, 50) n", state)
            try await pair.plant("UPDATE public.w SET k = 'ANA7' WHERE k = 'ana7'; INSERT INTO public.w VALUES ('BOB', 1)")
            let report = try await pair.verify(chunkRows: 7)
            #expect(report.words == ["w BOB: extra", "w ana7: changed k"])
            try await RowRepair.with(pair.settings) { repair in
                let scope = try #require(report.compared.values.first)
                for difference in report.tables[0].differences {
                    let outcome = try await repair.mend(difference.key, of: scope)
                    #expect(outcome == .mended, "\(outcome)")
                }
            }
            try await pair.expectSame("SELECT w::text FROM public.w w ORDER BY k COLLATE \"C\"", atLeast: 50)
        }
        // Where only one side is so loose, nobody can say which row is which.
        let mixed = try await ReplicaPair(
            "CREATE TABLE public.w (k text COLLATE \"C\" PRIMARY KEY, v int)", targetSchema: loose + schema)
        try await mixed.streaming { state in
            try await mixed.apply("INSERT INTO public.w VALUES ('ana', 1)", state)
            #expect(try await mixed.verify().skipped.map(\.reason) == [.keyEquality(column: "k")])
        }
    }

    @Test func trailingSpacesOfPaddedTextCountAsTheTargetKeepsThem() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE public.p (k char(4) PRIMARY KEY, c char(6), d varchar(9)); CREATE TABLE public.q (k varchar(9) PRIMARY KEY)",
            targetSchema: """
                CREATE TABLE public.p (k char(8) PRIMARY KEY, c text, d char(9)); CREATE TABLE public.q (k char(9) PRIMARY KEY)
                """)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.p SELECT n::text, 'c' || n, 'd' || n FROM generate_series(1, 50) n", state)
            _ = try await pair.source.execute("INSERT INTO public.p VALUES ('x', NULL, NULL)")
            try await pair.catchUp(state)
            let before = try await pair.verify(chunkRows: 7)
            #expect(before.words == [] && before.tables.map(\.rows) == [51])
            // 'a' and 'a ' are two keys there and one here.
            #expect(before.skipped.map(\.reason) == [.keyEquality(column: "k")])
            try await pair.plant("UPDATE public.p SET c = rtrim(c) WHERE k = '7'; DELETE FROM public.p WHERE k = 'x'")
            let report = try await pair.verify(["p"], chunkRows: 7)
            #expect(report.words == ["p 7: changed c", "p x: missing"])
            try await RowRepair.with(pair.settings) { repair in
                let scope = try #require(report.compared.values.first)
                for difference in report.tables[0].differences {
                    let outcome = try await repair.mend(difference.key, of: scope)
                    #expect(outcome == .mended, "\(outcome)")
                }
            }
            #expect(try await pair.verify(["p"]).result == .equal)
        }
    }
}
