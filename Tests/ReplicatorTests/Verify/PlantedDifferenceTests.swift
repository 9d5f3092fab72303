import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

/// Differences that were put there, each of another kind: all of them are found, and nothing else.
@Suite struct PlantedDifferenceTests {
    private static let schema = """
        CREATE TYPE public.mood AS ENUM ('ok', 'sad');
        CREATE TABLE public.room (id int PRIMARY KEY, t text, c char(10), f float8, f4 float4, n numeric, j jsonb, js json,
          at timestamptz, b bytea, a text[], m public.mood, i interval, u uuid, ok boolean, big text, r int4range, d date);
        ALTER TABLE public.room ALTER big SET STORAGE EXTERNAL;
        """
    private static let rows = """
        INSERT INTO public.room SELECT n, 'text ' || n, 'c' || n, n, n, (n || '.50')::numeric, jsonb_build_object('n', n), '{"n": 1}',
          timestamptz '2026-01-01' + n * interval '1 minute', decode(to_hex(n % 16 + 16), 'hex'), ARRAY['a', NULL, ''], 'ok',
          n * interval '1 hour', gen_random_uuid(), true, repeat('x', 5000 + n), int4range(n, n + 5), date '2026-01-01' + n
        FROM generate_series(1, 1000) n;
        """
    /// What is done to the target, and what of it is found.
    private static let planted: [(sql: String, word: String)] = [
        ("UPDATE public.room SET t = 'edited' WHERE id = 1", "room 1: changed t"),
        ("DELETE FROM public.room WHERE id = 2", "room 2: missing"),
        ("DELETE FROM public.room WHERE id = 1000", "room 1000: missing"),
        ("INSERT INTO public.room (id, t) VALUES (-5, 'extra')", "room -5: extra"),
        ("INSERT INTO public.room (id, t) VALUES (5000, 'extra')", "room 5000: extra"),
        ("UPDATE public.room SET t = NULL WHERE id = 30", "room 30: changed t"),
        ("UPDATE public.room SET t = t || ' ' WHERE id = 31", "room 31: changed t"),
        ("UPDATE public.room SET f = '-0' WHERE id = 33", "room 33: changed f"),
        ("UPDATE public.room SET f4 = 'NaN' WHERE id = 34", "room 34: changed f4"),
        ("UPDATE public.room SET n = n * 1.0 WHERE id = 35", "room 35: changed n"),
        ("UPDATE public.room SET j = j || '{\"x\": null}' WHERE id = 36", "room 36: changed j"),
        ("UPDATE public.room SET js = '{\"n\":1}' WHERE id = 37", "room 37: changed js"),
        ("UPDATE public.room SET at = at + interval '1 microsecond' WHERE id = 38", "room 38: changed at"),
        ("UPDATE public.room SET b = b || '\\x00' WHERE id = 39", "room 39: changed b"),
        ("UPDATE public.room SET a = ARRAY['a', 'NULL', ''] WHERE id = 40", "room 40: changed a"),
        ("UPDATE public.room SET a = '[0:2]={a,NULL,\"\"}' WHERE id = 41", "room 41: changed a"),
        ("UPDATE public.room SET m = 'sad', ok = NULL WHERE id = 42", "room 42: changed m ok"),
        ("UPDATE public.room SET i = '1 day' WHERE id = 24", "room 24: changed i"),
        ("UPDATE public.room SET big = overlay(big PLACING 'y' FROM 4000) WHERE id = 43", "room 43: changed big"),
        ("UPDATE public.room SET u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', r = 'empty', d = 'infinity' WHERE id = 44",
         "room 44: changed u r d"),
        ("UPDATE public.room SET t = 'text ' || (101 - id) WHERE id IN (50, 51)", "room 50: changed t"),
        ("UPDATE public.room SET c = 'C51' WHERE id = 51", "room 51: changed t c"),
    ]

    @Test func everyPlantedDifferenceIsFoundAndNothingElse() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply(Self.rows, state)
            try await pair.apply("UPDATE public.room SET t = '', f = 0 WHERE id IN (30, 33)", state)
            let before = try await pair.verify()
            #expect(before.words == [])
            #expect(before.result == .equal)
            #expect(before.tables.map(\.rows) == [1_000])
            for plant in Self.planted { try await pair.plant(plant.sql) }
            let expected = Self.planted.map(\.word).sorted()
            #expect(Self.planted.count >= 20)
            for (chunkRows, jobs) in [(100, 1), (7, 3), (10_000, 1)] {
                let report = try await pair.verify(chunkRows: chunkRows, jobs: jobs)
                #expect(report.words == expected, "stretches of \(chunkRows) rows, \(jobs) jobs")
                #expect(report.differenceCount == expected.count)
                #expect(report.result == .different)
            }
            let last = try await VerifyStore(connection: pair.target, direction: "bot->sync").last()
            #expect(last?.result == .different && last?.differences == expected.count && last?.tables == 1)
        }
    }

    @Test func repairMendsEveryPlantedDifferenceByTheSourcesValues() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply(Self.rows, state)
            try await pair.apply("UPDATE public.room SET t = '', f = 0 WHERE id IN (30, 33)", state)
            for plant in Self.planted { try await pair.plant(plant.sql) }
            let report = try await pair.verify()
            try await RowRepair.with(pair.settings) { repair in
                for table in report.tables {
                    let scope = try #require(report.compared[table.table])
                    for difference in table.differences {
                        let outcome = try await repair.mend(difference.key, of: scope)
                        #expect(outcome == .mended, "\(outcome)")
                        let again = try await repair.mend(difference.key, of: scope)
                        #expect(again == .equal, "\(again)")
                    }
                }
            }
            #expect(try await pair.verify().result == .equal)
            try await pair.expectSame("SELECT r::text FROM public.room r ORDER BY id", atLeast: 1_000)
            // The stream goes on over the mended rows.
            try await pair.apply("UPDATE public.room SET t = 'later'; DELETE FROM public.room WHERE id = 2", state)
            #expect(try await pair.verify().result == .equal)
        }
    }

    @Test func sessionSettingsOfARoleMakeNoDifference() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply(Self.rows, state)
            let name = try #require(try await pair.target.query("SELECT current_database()").firstValue)
            for setting in [
                "timezone = 'Asia/Tokyo'", "datestyle = 'German, DMY'", "intervalstyle = 'iso_8601'", "bytea_output = 'escape'",
                "extra_float_digits = -15", "search_path = nowhere", "default_transaction_read_only = off",
            ] {
                _ = try await pair.target.execute("ALTER DATABASE \"\(name)\" SET \(setting)")
            }
            #expect(try await pair.verify().result == .equal)
        }
    }
}
