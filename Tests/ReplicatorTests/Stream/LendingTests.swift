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
    ///
    /// - Parameter send: what sending a chunk comes to.
    private func waiting(
        _ mailbox: StreamMailbox, _ log: Log,
        take: @escaping @Sendable (Bool) -> StreamMailbox.LentOutcome = { _ in .applied(isSettled: true) },
        send: @escaping @Sendable (ChangeChunk) -> StreamMailbox.LentOutcome
    ) -> Task<Void, Never> {
        let lending = StreamMailbox.Lending(connection: nil, send: { chunk, _ in send(chunk) }, take: { isAwaited, _ in take(isAwaited) })
        return blocking {
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
        let applier = waiting(mailbox, log) { chunk in
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
        let applier = waiting(mailbox, log) { _ in
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
        let applier = waiting(mailbox, log) { _ in .applied(isSettled: false) }
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
            let applier = waiting(mailbox, log) { [mailbox] _ in
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

    /// The applier has itself back once the last answer is taken, and not before; what does not go the same way waits for that.
    @Test(.timeLimit(.minutes(1))) func whatIsOnItsWayKeepsTheApplierLent() async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(
            mailbox, log,
            take: { isAwaited in
                log.note(isAwaited ? "awaited" : "looked")
                return isAwaited && log.all.count >= 6 ? .applied(isSettled: true) : .onItsWay
            },
            send: { chunk in
                log.note("sent \(chunk.endLSN.rawValue)")
                return .onItsWay
            })
        await offer(chunk(1), to: mailbox)
        mailbox.put(chunk(2, changes: 0))
        mailbox.noteQuiet()
        mailbox.takeLent()
        #expect(mailbox.offer(chunk(3), whileWaiting: {}), "a position that has been passed is in nobody's way")
        #expect(!mailbox.offer(chunk(4, changes: 33), whileWaiting: {}))
        mailbox.settleLent(whileWaiting: {})
        mailbox.settleLent(whileWaiting: {})
        mailbox.put(chunk(4, changes: 33))
        mailbox.close()
        await applier.value
        #expect(log.all == ["sent 1", "looked", "sent 3", "awaited", "awaited", "awaited", "taken 1", "over"])
    }

    /// The server tells its position after each transaction; the first may come before the applier has looked at all.
    @Test(.timeLimit(.minutes(1)), arguments: 0..<20) func positionsWaitUntilItIsQuietAndTakeNoRoom(round: Int) async {
        let (mailbox, log) = (StreamMailbox(limitBytes: 1 << 20), Log())
        let applier = waiting(mailbox, log) { _ in .applied(isSettled: true) }
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
        let applier = waiting(mailbox, log) { [mailbox] lent in
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
        let seconds = patient(.seconds(2)).components.seconds
        let database = try #require(try await pair.source.query("SELECT quote_ident(current_database())").firstValue)
        _ = try await pair.source.execute("ALTER DATABASE \(database) SET wal_sender_timeout = '\(seconds)s'")
        let holder = try await ReplicaPair.connect(pair.targetURL)
        try await pair.streaming { state in
            for id in 1...3 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            try await pair.apply("UPDATE t SET v = 1 WHERE id = 1", state)
            try await waitUntil("the applier has nothing left to ask, and lends itself") { state.durableLSN >= state.appliedLSN }
            _ = try await holder.execute("BEGIN; UPDATE t SET v = v WHERE id = 1")
            let sender = try await pair.rows(Self.sender, on: pair.source)
            _ = try await pair.source.execute("UPDATE t SET v = 2 WHERE id = 1")
            try await waitForTheRow(holder)
            if isLost { _ = try await pair.source.query("SELECT pg_terminate_backend(\(sender[0][0] ?? ""))") }
            let begun = try #require(try await pair.source.query("SELECT clock_timestamp()::text").firstValue)
            // Long enough for a server that hears nothing, and for several signs of life that reach nobody.
            let heard = isLost ? "" : "AND EXISTS (\(Self.sender) AND r.reply_time > '\(begun)'::timestamptz + '\(seconds + 1)s')"
            try await waitUntil("the source's timeout is over, and it has heard of us if it could") {
                try await pair.source.query(
                    "SELECT 1 WHERE clock_timestamp() > '\(begun)'::timestamptz + '\(2 * seconds + 1)s' \(heard)"
                ).rowCount == 1
            }
            let senderNow = try await pair.rows(Self.sender, on: pair.source)
            // Who did not wait in the applier's place has noticed it, and has a new one.
            #expect((senderNow == sender) == !isLost)
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

    private func pairThatCountsMissingRows(and more: String = "") async throws -> ReplicaPair {
        var replication = ReplicationSettings()
        replication.missingRow = .count
        replication.heartbeatMilliseconds = 0
        return try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int); \(more)", replication: replication)
    }

    private func waitForTheRow(_ holder: PostgresConnection) async throws {
        try await waitUntil("the applier waits for the row") {
            try await holder.query("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").rowCount > 0
        }
    }

    /// The target refuses one on which others wait that have been sent behind it: they are void, and come again in their order.
    @Test func whatIsSentBehindARefusedOneComesAgain() async throws {
        let pair = try await pairThatCountsMissingRows()
        let holder = try await ReplicaPair.connect(pair.targetURL)
        try await pair.streaming { state in
            for id in 1...6 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            for id in 2...3 { try await pair.apply("UPDATE t SET v = 1 WHERE id = \(id)", state) }
            try await waitUntil("the applier has nothing left to ask, and lends itself") { state.durableLSN >= state.appliedLSN }
            _ = try await holder.execute("BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM t WHERE id = 1")
            _ = try await pair.source.execute("UPDATE t SET v = v + 10 WHERE id = 1")
            try await waitForTheRow(holder)
            // One by one, so that each is sent by itself.
            for condition in ["id = 2", "id = 3", "id = 4", "id = 5", "id = 6", "id > 1"] {
                try await pair.haveRead("UPDATE t SET v = v + 10 WHERE \(condition)", state)
            }
            _ = try await holder.execute("COMMIT")
            try await pair.catchUp(state)
            let counters = state.snapshot().counters
            #expect(counters.missingRows == 1)
            #expect(counters.fallbacks == 1)
            #expect(
                try await pair.rows("SELECT id::text, v::text FROM t ORDER BY 1", on: pair.target)
                    == [["2", "21"], ["3", "21"], ["4", "20"], ["5", "20"], ["6", "20"]])
        }
        await holder.close()
    }

    /// Only the place keeps them back: the refused one has no BEGIN, as the one before it has asked how far the disk is, just now.
    /// On a busy machine they may be read together, and less is shown then.
    @Test func whatIsSentBehindARefusedOneWithoutABeginIsVoid() async throws {
        let pair = try await pairThatCountsMissingRows()
        let holder = try await ReplicaPair.connect(pair.targetURL)
        try await pair.streaming { state in
            for id in 1...4 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            for id in 3...4 { try await pair.apply("UPDATE t SET v = 1 WHERE id = \(id)", state) }
            try await pair.plant("DELETE FROM t WHERE id = 2")
            try await waitUntil("the applier has nothing left to ask, and lends itself") { state.durableLSN >= state.appliedLSN }
            _ = try await holder.execute("BEGIN; UPDATE t SET v = v WHERE id = 1")
            for id in 1...2 { _ = try await pair.source.execute("UPDATE t SET v = 5 WHERE id = \(id)") }
            for id in 5...8 { _ = try await pair.source.execute("INSERT INTO t VALUES (\(id), 0)") }
            try await waitForTheRow(holder)
            _ = try await holder.execute("COMMIT")
            try await pair.catchUp(state)
            #expect(state.snapshot().counters.missingRows == 1)
            let ids = try await pair.rows("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE v <> 0 OR id > 4", on: pair.target)
            #expect(ids == [["1 3 4 5 6 7 8"]])
        }
        await holder.close()
    }

    /// What is left together with a refused one may be of a table that nobody has looked at: not in a transaction that has failed.
    @Test func whatComesBehindARefusedOneMayBeOfANewTable() async throws {
        let pair = try await pairThatCountsMissingRows(and: "CREATE TABLE u (id int PRIMARY KEY)")
        let holder = try await ReplicaPair.connect(pair.targetURL)
        try await pair.streaming { state in
            for id in 1...3 { try await pair.apply("INSERT INTO t VALUES (\(id), 0)", state) }
            for id in 2...3 { try await pair.apply("UPDATE t SET v = 1 WHERE id = \(id)", state) }
            try await waitUntil("the applier has nothing left to ask, and lends itself") { state.durableLSN >= state.appliedLSN }
            _ = try await holder.execute("BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM t WHERE id = 1")
            _ = try await pair.source.execute("UPDATE t SET v = 5 WHERE id = 1")
            try await waitForTheRow(holder)
            try await pair.haveRead("INSERT INTO u VALUES (1)", state)
            _ = try await holder.execute("COMMIT")
            try await pair.catchUp(state)
            #expect(state.snapshot().counters.missingRows == 1)
            #expect(state.snapshot().reconnects == 0)
            try await pair.expectSame("SELECT * FROM u")
        }
        await holder.close()
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

extension ReplicaPair {
    /// Runs SQL on the source, then waits until the stream has brought it, applied or not.
    fileprivate func haveRead(_ sql: String, _ state: DirectionState) async throws {
        let before = try #require(try await source.query("SELECT pg_current_wal_lsn()::text").firstValue.flatMap { LSN($0) })
        _ = try await source.execute(sql)
        try await waitUntil("it has been read") { state.receivedLSN > before }
    }
}
