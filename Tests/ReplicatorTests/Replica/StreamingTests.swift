import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Large transactions that travel while they run (`streaming: on`).
@Suite struct StreamingTests {
    private typealias Scene = StreamingPair

    @Test func interleavedTransactionsArriveWholeWithoutWhatWasRolledBack() async throws {
        let scene = try await Scene()
        try await scene.pair.streaming { state in
            let sessions = [try await scene.session(), try await scene.session(), try await scene.session()]
            for session in sessions { _ = try await session.execute("BEGIN") }
            for round in 0..<6 {
                for (number, session) in sessions.enumerated() {
                    let first = number * 100_000 + round * 2_000
                    _ = try await session.execute(
                        """
                        \(Scene.rows(first, first + 999)); SAVEPOINT s; \(Scene.rows(first + 1_000, first + 1_999));
                        UPDATE t SET v = 'gone' WHERE id < \(first + 500) AND id >= \(first);
                        SAVEPOINT inner_one; DELETE FROM t WHERE id = \(first); RELEASE inner_one; ROLLBACK TO s;
                        UPDATE t SET v = 'kept' WHERE id = \(first + 7)
                        """)
                }
                try await scene.pair.apply(Scene.rows(900_000 + round, 900_000 + round, "small"), state)
            }
            try await waitUntil("they are kept in files") { !scene.files.isEmpty }
            _ = try await sessions[1].execute("ROLLBACK")
            _ = try await sessions[2].execute("COMMIT")
            _ = try await sessions[0].execute("COMMIT")
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
            try await scene.pair.expectSame(
                "SELECT * FROM t WHERE v = 'kept' OR v = 'gone' ORDER BY id", atLeast: 12)
            #expect(state.snapshot().streaming.transactions >= 2)
            #expect(state.snapshot().streaming.spilledBytes > 100_000)
            #expect(state.snapshot().reconnects == 0)
            try await waitUntil("their files are gone") { scene.files.isEmpty }
            for session in sessions { await session.close() }
        }
        #expect(scene.folders.isEmpty)
    }

    /// What runs holds nothing back, and what was read of it counts for nothing.
    @Test func runningTransactionIsNeitherWaitedForNorAcknowledged() async throws {
        let scene = try await Scene()
        let session = try await scene.session()
        try await scene.pair.streaming { state in
            _ = try await session.execute("BEGIN; \(Scene.rows(1, 5_000))")
            try await waitUntil("it is read") { !scene.files.isEmpty }
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'small')", state)
            let lsn =
                try await scene.pair.rows("SELECT pg_current_wal_insert_lsn()", on: scene.pair.source)[0][0]
                ?? ""
            try await waitUntil("the source may forget what came before") {
                let sql =
                    "SELECT confirmed_flush_lsn >= '\(lsn)' FROM pg_replication_slots WHERE slot_name = '\(scene.pair.slot)'"
                return try await scene.pair.rows(sql, on: scene.pair.source) == [["t"]]
            }
            #expect(try await scene.pair.rows("SELECT id FROM t", on: scene.pair.target) == [["-1"]])
        }
        #expect(scene.folders.isEmpty)
        // It goes on, and commits, while nobody reads.
        _ = try await session.execute("\(Scene.rows(5_001, 6_000)); COMMIT")
        try await scene.pair.streaming { state in
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
        }
        await session.close()
    }

    @Test func transactionThatRunsOverAReconnectIsStreamedAgain() async throws {
        let scene = try await Scene()
        let session = try await scene.session()
        try await scene.pair.streaming { state in
            _ = try await session.execute("BEGIN; \(Scene.rows(1, 5_000))")
            for round in 1...3 {
                try await waitUntil("it is read") { !scene.files.isEmpty }
                let before = scene.files
                _ = try await scene.pair.source.execute(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '\(scene.pair.slot)'"
                )
                _ = try await session.execute(Scene.rows(round * 10_000, round * 10_000 + 999))
                try await waitUntil("it is read again") {
                    !scene.files.isEmpty && Set(scene.files).isDisjoint(with: before)
                }
                #expect(scene.folders.count == 1)
            }
            _ = try await session.execute("COMMIT")
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
            #expect(state.snapshot().reconnects >= 3)
        }
        await session.close()
    }

    /// BEHAVIOURS 20: a definition from what was rolled back must not be used.
    @Test func definitionsFromRolledBackPartsAreForgotten() async throws {
        let scene = try await Scene()
        let session = try await scene.session()
        try await scene.pair.streaming { state in
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'before')", state)
            _ = try await session.execute(
                """
                BEGIN; \(Scene.rows(1, 1_000)); SAVEPOINT s; ALTER TABLE t ADD COLUMN extra int DEFAULT 7;
                INSERT INTO t SELECT i, repeat('x', 200), i FROM generate_series(1001, 3000) i; ROLLBACK TO s;
                \(Scene.rows(3_001, 4_000)); COMMIT
                """)
            _ = try await session.execute(
                """
                BEGIN; ALTER TABLE t DROP COLUMN v;
                INSERT INTO t SELECT i FROM generate_series(5001, 9000) i; ROLLBACK
                """)
            try await scene.pair.apply("INSERT INTO t VALUES (-2, 'after')", state)
            try await scene.pair.expectSame(Scene.contents)
            #expect(state.snapshot().streaming.transactions >= 1)
        }
        await session.close()
    }

    @Test func damagedFileIsRefusedAndTheTransactionComesAgain() async throws {
        let scene = try await Scene()
        let session = try await scene.session()
        try await scene.pair.streaming { state in
            for (round, damage) in [Damage.altered, .cut, .removed].enumerated() {
                _ = try await session.execute("BEGIN; \(Scene.rows(round * 10_000, round * 10_000 + 5_000))")
                try await waitUntil("it is read") { scene.files.contains { Self.size($0) > 400_000 } }
                // Else it would be applied from what comes, and nobody would look into the file.
                try await scene.pair.apply("INSERT INTO t VALUES (\(-1 - round), 'between')", state)
                let file = try #require(scene.files.first)
                try damage.apply(to: file)
                _ = try await session.execute("COMMIT")
                try await scene.pair.catchUp(state)
                try await scene.pair.expectSame(Scene.contents)
                #expect(state.snapshot().reconnects >= round + 1)
            }
        }
        await session.close()
    }

    private static func size(_ file: String) -> Int {
        ((try? FileManager.default.attributesOfItem(atPath: file))?[.size] as? Int) ?? 0
    }

    private enum Damage {
        case altered, cut, removed

        func apply(to file: String) throws {
            if self == .removed { return try FileManager.default.removeItem(atPath: file) }
            let handle = try #require(FileHandle(forUpdatingAtPath: file))
            defer { try? handle.close() }
            if self == .cut { return try handle.truncate(atOffset: 300_000) }
            try handle.seek(toOffset: 200_000)
            let byte = try #require(try handle.read(upToCount: 1)?.first)
            try handle.seek(toOffset: 200_000)
            try handle.write(contentsOf: [byte ^ 1])
        }
    }

    /// The target takes its time; the server must hear of us all the same.
    @Test func serverIsAnsweredWhileALargeTransactionIsReplayed() async throws {
        let scene = try await Scene()
        let blocker = try await ReplicaPair.connect(scene.pair.targetURL)
        try await scene.pair.streaming { state in
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'before')", state)
            _ = try await blocker.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
            _ = try await scene.pair.source.execute(Scene.rows(1, 40_000))
            let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"
            try await waitUntil("it is being applied") {
                try await scene.pair.rows(waiting, on: blocker) == [["t"]]
            }
            // Longer than wal_sender_timeout.
            let replied =
                "SELECT bool_or(reply_time > '%')::text FROM pg_stat_replication WHERE pid = "
                + "(SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(scene.pair.slot)')"
            let until =
                try await scene.pair.rows(
                    "SELECT clock_timestamp() + '\(StreamingPair.senderTimeoutSeconds + 2)s'", on: scene.pair.source)[0][0] ?? ""
            try await waitUntil("the server still hears of us") {
                try await scene.pair.rows(
                    replied.replacingOccurrences(of: "%", with: until), on: scene.pair.source) == [["true"]]
            }
            #expect(state.snapshot().reconnects == 0)
            _ = try await blocker.execute("COMMIT")
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
            #expect(state.snapshot().reconnects == 0)
        }
        await blocker.close()
    }

    @Test func preparedTransactionsComeWhenTheyCommit() async throws {
        // One of its own: a prepared transaction is in the way of whoever makes a slot there.
        let scene = try await Scene(cluster: "prepared")
        try await scene.pair.streaming { state in
            for (name, rows) in [
                ("large", Scene.rows(1, 5_000)), ("small", Scene.rows(6_000, 6_001)),
                ("gone", Scene.rows(7_000, 9_000)),
            ] {
                _ = try await scene.pair.source.execute(
                    "BEGIN; \(rows); PREPARE TRANSACTION '\(name)-\(scene.pair.slot)'")
            }
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'between')", state)
            #expect(try await scene.pair.rows("SELECT id FROM t", on: scene.pair.target) == [["-1"]])
            for (name, end) in [("small", "COMMIT"), ("gone", "ROLLBACK"), ("large", "COMMIT")] {
                _ = try await scene.pair.source.execute("\(end) PREPARED '\(name)-\(scene.pair.slot)'")
            }
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
            try await waitUntil("no file is left") { scene.files.isEmpty }
        }
    }

    /// With 1 MB of memory, some 2,000 may be open at a time.
    @Test func moreSubtransactionsThanFitInMemoryComeUnstreamed() async throws {
        let scene = try await Scene()
        try await scene.pair.streaming { state in
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'before')", state)
            let loop = """
                DO $$ BEGIN FOR i IN 1..6000 LOOP
                  BEGIN INSERT INTO t VALUES (i + %, repeat('s', 100)); EXCEPTION WHEN unique_violation THEN NULL; END;
                END LOOP; END $$
                """
            // Released one after the other, which the stream does not tell; then all taken back at once.
            _ = try await scene.pair.source.execute(
                """
                BEGIN; \(Scene.rows(100_001, 101_000)); SAVEPOINT outer_one; \(loop.replacingOccurrences(of: "%", with: "0"));
                ROLLBACK TO outer_one; \(Scene.rows(101_001, 102_000)); COMMIT
                """)
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
            #expect(state.snapshot().reconnects == 0, "it is no fault")
            _ = try await scene.pair.source.execute(
                "BEGIN; \(loop.replacingOccurrences(of: "%", with: "200000")); COMMIT")
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(Scene.contents)
        }
    }

    /// A piece that fails in bulk sends the worker back for the whole transaction.
    @Test func refusedChangeInsideIsFoundInExactOrder() async throws {
        let scene = try await Scene()
        try await scene.pair.streaming { state in
            try await scene.pair.apply("INSERT INTO t SELECT -i, 'v' || i FROM generate_series(1, 20) i", state)
            _ = try await scene.pair.target.execute("CREATE UNIQUE INDEX ON t (md5(v))")
            // Pairs of rows trade what must be unique, in the last of several pieces: one statement for both cannot. Some pairs,
            // as a piece may end inside of one.
            let trades = (1...10).map { pair in
                let (one, other) = (2 * pair - 1, 2 * pair)
                return """
                    UPDATE t SET v = 'third' WHERE id = -\(one); UPDATE t SET v = 'v\(one)' WHERE id = -\(other);
                    UPDATE t SET v = 'v\(other)' WHERE id = -\(one)
                    """
            }
            _ = try await scene.pair.source.execute(
                "BEGIN; \(Scene.rows(1, 40_000)); \(trades.joined(separator: "; ")); COMMIT")
            try await scene.pair.catchUp(state, timeoutSeconds: 90)
            try await scene.pair.expectSame(Scene.contents)
            let bytes =
                try await scene.pair.rows("SELECT sum(length(v)) FROM t", on: scene.pair.source)[0][0].flatMap
            { Int($0) } ?? 0
            #expect(state.snapshot().streaming.spilledBytes > bytes * 3 / 2, "it came twice")
        }
    }

    @Test func manyTransactionsAtATimeShareTheMemory() async throws {
        let scene = try await Scene()
        try await scene.pair.streaming { state in
            var sessions: [PostgresConnection] = []
            for _ in 0..<24 { sessions.append(try await scene.session()) }
            for round in 0..<3 {
                for (number, session) in sessions.enumerated() {
                    let first = number * 100_000 + round * 1_000
                    _ = try await session.execute(
                        "\(round == 0 ? "BEGIN; " : "")\(Scene.rows(first, first + 999))")
                }
            }
            try await waitUntil("most have a file") { scene.files.count > 12 }
            for (number, session) in sessions.enumerated().reversed() {
                _ = try await session.execute(number % 3 == 0 ? "ROLLBACK" : "COMMIT")
                await session.close()
            }
            try await scene.pair.catchUp(state, timeoutSeconds: 60)
            try await scene.pair.expectSame(Scene.contents)
            #expect(state.snapshot().streaming.transactions == 16)
            try await waitUntil("no file is left") { scene.files.isEmpty }
        }
    }
}
