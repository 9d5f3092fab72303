import PostgresClient
import Synchronization
import TestSupport
import Testing

@testable import ReplicationCore
@testable import Replicator

/// The reader in the applier's place.
@Suite struct LendingTests {
    private func chunk(_ endLSN: UInt64 = 9, changes: Int = 1) -> ChangeChunk {
        var chunk = ChangeChunk()
        chunk.changes = Array(repeating: Change(kind: .insert, relation: 0), count: changes)
        chunk.endLSN = LSN(endLSN)
        return chunk
    }

    private final class Log: Sendable {
        private let entries = Mutex<[String]>([])
        var all: [String] { entries.withLock { $0 } }
        func note(_ entry: String) { entries.withLock { $0.append(entry) } }
    }

    /// An applier that waits on a thread of its own and notes how many chunks it gets, until the mailbox is closed.
    private func waiting(_ mailbox: StreamMailbox, _ log: Log, _ lending: @escaping StreamMailbox.Lending) -> Task<Void, Never> {
        blocking {
            while true {
                switch mailbox.takeBlocking(.none, untilQuiet: false, lending: lending) {
                case .chunks(let chunks): log.note("taken \(chunks.count)")
                case .left: log.note("left to it")
                case .quiet: log.note("quiet")
                case .over: return log.note("over")
                }
            }
        }
    }

    /// The reader: offers the chunk until the applier waits for it.
    private func offer(_ chunk: ChangeChunk, to mailbox: StreamMailbox) async {
        while !mailbox.offer(chunk, whileWaiting: {}) { await Task.yield() }
    }

    @Test(.timeLimit(.minutes(1))) func whatIsAppliedAtOnceWakesNobody() async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(mailbox, log) { chunk, _ in
            log.note("lent \(chunk.endLSN.rawValue)")
            return .applied(isSettled: true)
        }
        await offer(chunk(1), to: mailbox)
        await offer(chunk(2), to: mailbox)
        mailbox.noteQuiet()
        mailbox.put(chunk(3))
        mailbox.close()
        await applier.value
        #expect(log.all == ["lent 1", "lent 2", "taken 1", "over"])
    }

    @Test(.timeLimit(.minutes(1))) func whatIsLeftComesBeforeAllElse() async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(mailbox, log) { _, _ in
            log.note("left")
            return .leftToApplier
        }
        await offer(chunk(1), to: mailbox)
        mailbox.put(chunk(2))
        mailbox.close()
        await applier.value
        #expect(log.all == ["left", "left to it", "taken 1", "over"])
    }

    @Test(.timeLimit(.minutes(1))) func whatIsNotSettledIsAskedForOnceItIsQuiet() async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(mailbox, log) { _, _ in .applied(isSettled: false) }
        await offer(chunk(1), to: mailbox)
        mailbox.noteQuiet()
        while log.all.isEmpty { await Task.yield() }
        mailbox.close()
        await applier.value
        #expect(log.all == ["quiet", "over"])
    }

    /// Cancelled or closed, the applier goes on only when it is given back.
    @Test(.timeLimit(.minutes(1))) func whatIsLentIsWaitedFor() async {
        for _ in 0..<300 {
            let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
            let applier = waiting(mailbox, log) { [mailbox] _, _ in
                mailbox.close()
                for _ in 0..<50 { mailbox.wake() }
                log.note("given back")
                return .applied(isSettled: true)
            }
            await offer(chunk(1), to: mailbox)
            await applier.value
            #expect(log.all == ["given back", "over"])
        }
    }

    /// The server tells its position after each transaction; the first may come before the applier has looked at all.
    @Test(.timeLimit(.minutes(1)), arguments: 0..<20) func positionsWaitUntilItIsQuietAndTakeNoRoom(round: Int) async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(mailbox, log) { _, _ in .applied(isSettled: true) }
        await offer(chunk(1), to: mailbox)
        var position = chunk(2, changes: 0)
        position.arena.bytes = Array(repeating: 0, count: 100)
        for _ in 2..<1_000 { mailbox.put(position) }
        #expect(mailbox.holds(1) && !mailbox.holds(position.sizeBytes + 1))
        await offer(chunk(1_000), to: mailbox)
        #expect(!mailbox.holds(1))
        mailbox.put(position)
        mailbox.noteQuiet()
        while log.all.isEmpty { await Task.yield() }
        mailbox.close()
        await applier.value
        #expect(log.all == ["taken 1", "over"])
    }

    @Test(.timeLimit(.minutes(1))) func whatIsLargeOrOpenOrOldIsNotLent() async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let chunks = (first: chunk(1), second: chunk(2), third: chunk(3))
        let applier = waiting(mailbox, log) { [mailbox] lent, _ in
            log.note("lent \(lent.endLSN.rawValue)")
            if lent.endLSN == LSN(1) { return .applied(isSettled: true) }
            mailbox.put(chunks.second)
            if !mailbox.offer(chunks.third, whileWaiting: {}) { log.note("it would overtake what waits") }
            mailbox.close()
            return .applied(isSettled: true)
        }
        await offer(chunks.first, to: mailbox)
        var piece = chunk(0)
        piece.transactions = [
            TransactionSpan(
                xid: 1, commitLSN: LSN(8), endLSN: .zero, commitTime: PostgresTime(microseconds: 0), origin: nil, changes: 0..<1)
        ]
        for unfit in [chunk(changes: 33), chunk(changes: 0), piece] { #expect(!mailbox.offer(unfit, whileWaiting: {})) }
        mailbox.note(isBacklog: true)
        #expect(!mailbox.offer(chunk(), whileWaiting: {}))
        mailbox.note(isBacklog: false)
        #expect(mailbox.offer(chunk(4), whileWaiting: {}))
        await applier.value
        #expect(log.all == ["lent 1", "lent 4", "it would overtake what waits", "taken 1", "over"])
    }

    /// A row that somebody holds on the target: the source hears of us all the same; and where it is lost meanwhile, it is found again.
    @Test(arguments: [false, true]) func whoWaitsForTheTargetKeepsTheStreamAlive(isLost: Bool) async throws {
        var replication = ReplicationSettings()
        replication.heartbeatMilliseconds = 0
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)", replication: replication)
        let database = try #require(try await pair.source.query("SELECT quote_ident(current_database())").firstValue)
        _ = try await pair.source.execute("ALTER DATABASE \(database) SET wal_sender_timeout = '2s'")
        let holder = try await ReplicaPair.connect(pair.targetURL)
        try await pair.streaming { state in
            for id in 1...3 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            try await pair.apply("UPDATE t SET v = 1 WHERE id = 1", state)
            try await waitUntil("the applier has nothing left to ask, and lends itself") { state.durableLSN >= state.appliedLSN }
            _ = try await holder.execute("BEGIN; UPDATE t SET v = v WHERE id = 1")
            let sender = try await pair.rows(Self.sender, on: pair.source)
            _ = try await pair.source.execute("UPDATE t SET v = 2 WHERE id = 1")
            try await waitUntil("the applier waits for the row") {
                try await holder.query("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").rowCount > 0
            }
            if isLost { _ = try await pair.source.query("SELECT pg_terminate_backend(\(sender[0][0] ?? ""))") }
            let begun = try #require(try await pair.source.query("SELECT clock_timestamp()::text").firstValue)
            // Long enough for a server that hears nothing, and for several signs of life that reach nobody.
            let heard = isLost ? "" : "AND EXISTS (\(Self.sender) AND r.reply_time > '\(begun)'::timestamptz + '3s')"
            try await waitUntil("the source's timeout is over, and it has heard of us if it could") {
                try await pair.source.query(
                    "SELECT 1 WHERE clock_timestamp() > '\(begun)'::timestamptz + '5s' \(heard)"
                ).rowCount == 1
            }
            let senderNow = try await pair.rows(Self.sender, on: pair.source)
            #expect(senderNow == (isLost ? [] : sender))
            _ = try await holder.execute("COMMIT")
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 3)
        }
        await holder.close()
    }

    /// An idle stream's single change that the target refuses: exact order, and the same stream goes on.
    @Test func whatTheTargetRefusesGoesInExactOrder() async throws {
        var replication = ReplicationSettings()
        replication.missingRow = .count
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)", replication: replication)
        try await pair.streaming { state in
            for id in 1...3 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            let sender = try await pair.rows(Self.sender, on: pair.source)
            try await pair.plant("DELETE FROM t WHERE id = 3")
            for _ in 1...3 { try await pair.apply("UPDATE t SET v = v + 1", state) }
            let counters = state.snapshot().counters
            #expect(counters.missingRows == 3)
            #expect(counters.fallbacks == 3)
            let senderNow = try await pair.rows(Self.sender, on: pair.source)
            #expect(senderNow == sender)
            #expect(try await pair.rows("SELECT id::text, v::text FROM t ORDER BY 1", on: pair.target) == [["1", "3"], ["2", "3"]])
        }
    }

    /// Somebody removes the direction's row while nothing comes: what comes next is not applied without its place.
    @Test(arguments: ["INSERT INTO t VALUES (4, 0)", "UPDATE t SET v = 1 WHERE id = 1"])
    func withoutItsPlaceNothingIsApplied(_ change: String) async throws {
        var replication = ReplicationSettings()
        replication.heartbeatMilliseconds = 0
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)", replication: replication)
        let state = DirectionState()
        let running = pair.start(state)
        for id in 1...3 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
        try await pair.apply("UPDATE t SET v = 0 WHERE id = 1", state)
        let before = try await pair.rows("SELECT id::text, v::text FROM t ORDER BY 1", on: pair.target)
        try await pair.plant("DELETE FROM lindero.direction")
        _ = try await pair.source.execute(change)
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .progressLost)
        let after = try await pair.rows("SELECT id::text, v::text FROM t ORDER BY 1", on: pair.target)
        #expect(after == before)
    }

    private static let sender = """
        SELECT a.pid::text FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid) WHERE a.datname = current_database()
        """
}
