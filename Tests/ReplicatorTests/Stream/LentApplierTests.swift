import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What the reader sends in the applier's place, one behind the other, without a stream that could hand over several at once.
@Suite struct LentApplierTests {
    /// A direction's applier, and source transactions that are a chunk each; the first is applied.
    private struct Scene {
        let pair: ReplicaPair
        var connection: PostgresConnection
        var applier: GroupApplier
        let chunks: [ChangeChunk]
        /// Another session on the target, which has locks that the applier waits for.
        let holder: PostgresConnection

        init(_ schema: String, onlyAtSource: String = "", _ transactions: [String]) async throws {
            var replication = ReplicationSettings()
            replication.missingRow = .count
            pair = try await ReplicaPair("\(schema); \(onlyAtSource)", targetSchema: schema, replication: replication)
            for transaction in transactions { _ = try await pair.source.execute(transaction) }
            chunks = try await Self.chunks(pair)
            try #require(chunks.count == transactions.count)
            _ = try await PostgresConnection.with(pair.settings.target) { try await Migrator(connection: $0).migrate() }
            holder = try await ReplicaPair.connect(pair.targetURL)
            (connection, applier) = try await Self.connect(pair)
            try await applier.apply([chunks[0]])
        }

        static func connect(_ pair: ReplicaPair) async throws -> (PostgresConnection, GroupApplier) {
            let connection = try await PostgresConnection.connect(pair.settings.applyOptions)
            let record = DirectionRecord(connection: connection, settings: pair.settings)
            if try await record.read() == nil { try await record.create(systemIdentifier: "1", startLSN: LSN(0x1000)) }
            try await DirectionRun.commitAsynchronously(connection)
            let startLSN = try await ProgressOrigin(connection: connection, direction: pair.settings.name).acquire()
            let applier = GroupApplier(
                connection: connection, settings: pair.settings, state: DirectionState(),
                plans: PlanCache(settings: pair.settings, isBinary: false, userTypes: [:], copiedUpTo: [:]),
                startLSN: startLSN, exactUpTo: .zero)
            return (connection, applier)
        }

        private static func chunks(_ pair: ReplicaPair) async throws -> [ChangeChunk] {
            var intake = LabIntake(limitBytes: 1 << 20, cutBytes: 1 << 20, earlyFrom: nil)
            var chunks: [ChangeChunk] = []
            let messages = try await pair.source.query(
                "SELECT data FROM pg_logical_slot_peek_binary_changes('\(pair.slot)', NULL, NULL, 'proto_version', '2', 'publication_names', 'p')",
                binaryResult: true)
            for row in 0..<messages.rowCount {
                chunks += try intake.read(messages.bytes(row: row, column: 0) ?? [], at: .zero)
                while let chunk = intake.assembler.take() { chunks.append(chunk) }
            }
            return chunks.filter { !$0.changes.isEmpty }
        }

        /// Sends chunks, none of which is answered yet, or all but the first of which are sent while it is at work.
        func send(_ range: Range<Int>, mayBeLeft: Bool = false) {
            // The target has just been asked for its place, so that each is one round trip without a BEGIN.
            applier.executor.askedAtMilliseconds = .max
            for chunk in chunks[range] {
                let state = applier.sendLent(chunk, duties)
                #expect(state == .onItsWay || mayBeLeft && state == .left)
            }
        }

        /// Waits until everything that is on its way is answered.
        func settle() -> GroupApplier.LentState {
            while true {
                let state = applier.takeLent(isAwaited: true, duties)
                if state == .applied || state == .left { return state }
            }
        }

        private var duties: GroupApplier.LentDuties { GroupApplier.LentDuties(whileWaiting: {}) }

        func ids() async throws -> String? {
            try await holder.query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").firstValue
        }

        func close() async {
            await holder.close()
            await connection.close()
        }
    }

    /// Nothing but the place keeps back what follows: there is no BEGIN that would leave a transaction that has failed.
    @Test(.timeLimit(.minutes(1))) func whatFollowsARefusedOneIsVoid() async throws {
        let scene = try await Scene(
            "CREATE TABLE t (id int PRIMARY KEY, v int)", onlyAtSource: "INSERT INTO t VALUES (9, 0)",
            ["INSERT INTO t VALUES (1, 0)", "UPDATE t SET v = 1 WHERE id = 9", "INSERT INTO t VALUES (2, 0)", "INSERT INTO t VALUES (3, 0)"])
        _ = try await scene.holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        scene.send(1..<4)
        _ = try await scene.holder.execute("COMMIT")
        #expect(scene.settle() == .left)
        #expect(try await scene.ids() == "1")
        #expect(scene.applier.appliedLSN == scene.chunks[0].endLSN)
        let left = try #require(scene.applier.takeAhead())
        #expect(left.chunks.map(\.endLSN) == scene.chunks[1...].map(\.endLSN))
        try await scene.applier.apply(left)
        #expect(try await scene.ids() == "1 2 3")
        #expect(scene.applier.takeCounters().missingRows == 1)
        #expect(scene.applier.appliedLSN == scene.chunks[3].endLSN)
        await scene.close()
    }

    /// One has taken effect, one is at work, one waits: the target's row says which is which, nothing else could.
    @Test(.timeLimit(.minutes(1))) func aLostConnectionLeavesNoDoubt() async throws {
        let scene = try await Scene(
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            ["INSERT INTO t VALUES (1, 0)", "INSERT INTO t VALUES (2, 0)", "UPDATE t SET v = 1 WHERE id = 1", "INSERT INTO t VALUES (3, 0)"])
        let backend = try await scene.connection.query("SELECT pg_backend_pid()::text").firstValue ?? ""
        _ = try await scene.holder.execute("BEGIN; UPDATE t SET v = v WHERE id = 1")
        scene.send(1..<4)
        try await waitUntil("the second waits for the row") {
            let waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            guard try await scene.ids() == "1 2" else { return false }
            return try await scene.holder.query(waits).rowCount > 0
        }
        _ = try await scene.holder.query("SELECT pg_terminate_backend(\(backend), 10000)")
        _ = try await scene.holder.execute("ROLLBACK")
        #expect(scene.settle() == .left)
        let left = try #require(scene.applier.takeAhead())
        #expect(left.chunks.last?.endLSN == scene.chunks[3].endLSN)
        await #expect(throws: PostgresError.self) { try await scene.applier.apply(left) }
        let (connection, applier) = try await Scene.connect(scene.pair)
        #expect(applier.appliedLSN == scene.chunks[1].endLSN)
        try await applier.apply(Array(scene.chunks[1...]))
        try await scene.pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 3)
        await connection.close()
        await scene.close()
    }

    /// From the third of a form on they go without a look at the plans: what looks the same and is not must not.
    @Test(.timeLimit(.minutes(1)), arguments: ["DEFAULT", "FULL"]) func whatIsOfAKnownFormIsWrittenAsAnyOther(identity: String) async throws {
        let scene = try await Scene(
            """
            CREATE TABLE t (id int PRIMARY KEY, v int, long text); ALTER TABLE t ALTER long SET STORAGE EXTERNAL;
            CREATE TABLE u (id int PRIMARY KEY, w text); ALTER TABLE t REPLICA IDENTITY \(identity)
            """,
            [
                "INSERT INTO t VALUES (1, 0, repeat('x', 4000)); INSERT INTO u VALUES (1, 'a')",
                "INSERT INTO t VALUES (2, 0, repeat('y', 4000)); INSERT INTO u VALUES (2, '')",
                "INSERT INTO t VALUES (3, NULL, NULL); INSERT INTO u VALUES (3, NULL)",
                "INSERT INTO t VALUES (4, 4, ''); INSERT INTO u VALUES (4, 'd')",
                "UPDATE t SET v = 1, long = 'a' WHERE id = 4; UPDATE u SET w = 'b' WHERE id = 4",
                "UPDATE t SET v = 2, long = 'b' WHERE id = 4; UPDATE u SET w = 'c' WHERE id = 4",
                "UPDATE t SET v = 3 WHERE id = 1; UPDATE u SET w = NULL WHERE id = 1",
                "UPDATE t SET v = 4 WHERE id = 2; UPDATE u SET w = 'e' WHERE id = 2",
                "UPDATE t SET v = NULL, long = NULL WHERE id = 4; UPDATE u SET w = 'f' WHERE id = 4",
            ] + (5...9).map { "INSERT INTO t VALUES (\($0), \($0), 'x'); INSERT INTO u VALUES (\($0), 'x')" }
                + (3...9).map { "UPDATE t SET id = \($0)0, v = \($0) WHERE id = \($0); UPDATE u SET id = \($0)0, w = '\($0)' WHERE id = \($0)" }
                + (4...8).map { "DELETE FROM u WHERE id = \($0)0; DELETE FROM t WHERE id = \($0)0" })
        var knownCount = 0
        for number in 1..<scene.chunks.count {
            let changes = scene.chunks[number].changes[...]
            if scene.applier.builder.statements.form(of: changes) != nil {
                knownCount += 1
                #expect(!changes.contains { $0.new.hasUnchanged || $0.oldKind == .full })
            }
            scene.send(number..<number + 1, mayBeLeft: true)
            _ = scene.settle()
            if let left = scene.applier.takeAhead() { try await scene.applier.apply(left) }
        }
        for table in ["t", "u"] { try await scene.pair.expectSame("SELECT id, md5(r::text) FROM \(table) r ORDER BY id", atLeast: 2) }
        let counters = scene.applier.takeCounters()
        // Inserts, updates that keep the row's key, those that change it, and deletes: from the third on each.
        #expect(knownCount >= (identity == "FULL" ? 5 : 5 + 1 + 5 + 3), "\(knownCount)")
        #expect(counters.fused > knownCount && counters.fallbacks == 0, "\(counters)")
        await scene.close()
    }

    /// Statements are prepared once. With one row on one page, the server would rather read the table than its index, and go on so.
    @Test(.timeLimit(.minutes(1))) func aPlanMadeForFewRowsUsesTheKeyWhenTheyAreMany() async throws {
        let scene = try await Scene(
            "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (autovacuum_enabled = off)",
            ["INSERT INTO t VALUES (1, 0)"] + (1...6).map { "UPDATE t SET v = \($0) WHERE id = 1" })
        _ = try await scene.holder.execute("VACUUM ANALYZE t")
        for number in 1..<4 {
            scene.send(number..<number + 1)
            #expect(scene.settle() == .applied)
        }
        _ = try await scene.holder.execute("INSERT INTO t SELECT g, 0 FROM generate_series(2, 20000) g")
        for number in 4..<6 {
            scene.send(number..<number + 1)
            #expect(scene.settle() == .applied)
        }
        // In bulk, too.
        try await scene.applier.apply([scene.chunks[6]])
        let statistics = "SELECT n_tup_upd || ' by key, ' || seq_tup_read || ' read' FROM pg_stat_user_tables WHERE relid = 't'::regclass"
        let connection = scene.connection
        await connection.close()
        try await waitUntil("the session has told what it did") {
            try await scene.holder.query(statistics).firstValue?.hasPrefix("6 ") == true
        }
        #expect(try await scene.holder.query(statistics).firstValue == "6 by key, 0 read")
        await scene.close()
    }
}
