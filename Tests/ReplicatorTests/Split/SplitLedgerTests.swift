import Dispatch
import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct SplitLedgerTests {
    private static func progress(_ applied: UInt64, seen: UInt64) -> SplitProgress {
        SplitProgress(appliedLSN: LSN(applied), context: CausalContext(lsn: LSN(seen)))
    }

    private static func ledger(_ origin: SplitProgress, _ other: SplitProgress) async throws -> SplitLedger {
        let files = SplitFiles(try await SpillFolder.open(base: nil, direction: "ledger"))
        let progress = SidePair(origin: origin, other: other)
        let options = ConnectionOptions("postgresql://nobody@127.0.0.1/nothing")
        let settings = SidePair<DirectionSettings> { side in
            DirectionSettings(
                sourceName: "\(side)", targetName: "\(side.opposite)", source: options, target: options, slot: "s", publication: "p",
                backend: .split, replication: ReplicationSettings(), policy: nil)
        }
        let readers = SidePair { side in
            SplitReader.restart(
                ownOrigin: "o", outgoing: progress[side], incoming: progress[side.opposite], tableIDs: [:], historyLimitBytes: 1 << 20,
                storage: files.history(of: side))
        }
        return SplitLedger(
            readers: readers, progress: progress, settings: SplitSettings(origin: settings[.origin], other: settings[.other], gates: Gates()),
            files: files)
    }

    /// A sign of life of this worker, and nothing else.
    private static func beat(_ sequence: Int64, endLSN: UInt64) -> (SplitChunk, Heartbeat) {
        var chunk = ChangeChunk()
        chunk.endLSN = LSN(endLSN)
        let beat = Heartbeat(sequence: sequence, worker: "w", sourceLSN: LSN(endLSN - 1), sentAt: PostgresTime(microseconds: 1))
        chunk.heartbeat = beat
        return (SplitChunk(chunk, tables: [:]), beat)
    }

    @Test func aSignOfLifeThatIsReadAgainTakesNoProgressBack() async throws {
        // The other side had seen the origin up to 100 only, so the origin is read again from there; all up to 500 is applied.
        let ledger = try await Self.ledger(Self.progress(500, seen: 50), Self.progress(60, seen: 100))
        let limits = ReplicationSettings().groupLimits
        let (early, earlyBeat) = Self.beat(1, endLSN: 300)
        try await ledger.read(early, of: .origin, sign: .beat(earlyBeat))
        #expect(ledger.nextGroupNow(from: .origin, limits: limits)?.progress == nil)
        let (late, lateBeat) = Self.beat(2, endLSN: 501)
        try await ledger.read(late, of: .origin, sign: .beat(lateBeat))
        let group = try #require(ledger.nextGroupNow(from: .origin, limits: limits))
        #expect(group.progress == Self.progress(501, seen: 50))
        #expect(group.items.count == 1)
    }

    /// A stream's reader has to be heard of by its server, whatever an applier looks for in files meanwhile.
    @Test func aReaderWaitsForNobodyWhoLooks() async throws {
        let ledger = try await Self.ledger(Self.progress(0, seen: 0), Self.progress(0, seen: 0))
        ledger.note(isBacklog: true, of: .origin)
        let (looks, hasAsked) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let reader = Thread {
            looks.wait()
            ledger.note(isBacklog: true, of: .origin)
            _ = (ledger.isBehind(.origin), ledger.isEchoing(.origin))
            hasAsked.signal()
        }
        reader.start()
        let hasEnded = ledger.withHistory(of: .origin) { _, _ in
            looks.signal()
            return hasAsked.wait(timeout: .now() + 60) == .success
        }
        #expect(hasEnded)
    }

    /// In a backlog an applier that could go on waits for a full group, and no longer than until the backlog's end.
    @Test func aGroupOfABacklogBecomesFullBeforeItIsTaken() async throws {
        let ledger = try await Self.ledger(Self.progress(0, seen: 0), Self.progress(0, seen: 0))
        func read(_ positions: ClosedRange<UInt64>) async throws {
            for position in positions {
                let (chunk, beat) = Self.beat(Int64(position), endLSN: position)
                try await ledger.read(chunk, of: .origin, sign: .beat(beat))
            }
        }
        let limits = GroupLimits(bytes: .max)
        ledger.note(isBacklog: true, of: .origin)
        try await read(1...3)
        #expect(ledger.nextGroupNow(from: .origin, limits: limits) == nil)
        async let taken = ledger.nextGroup(from: .origin, limits: limits, patienceMilliseconds: 600_000)
        try await waitUntil("the applier waits") { ledger.isFilling(.origin) }
        try await read(4...5)
        #expect(ledger.isFilling(.origin))
        ledger.note(isBacklog: false, of: .origin)
        let group = try #require(try await taken)
        #expect(group.items.count == 5 && group.progress?.appliedLSN == LSN(5))
        #expect(!ledger.isFilling(.origin))
        // Nobody waits without a backlog.
        try await read(6...6)
        #expect(try await ledger.nextGroup(from: .origin, limits: limits, patienceMilliseconds: 600_000)?.progress?.appliedLSN == LSN(6))
    }

    /// A transaction that its server ends for being idle is tried again, and takes as long again: on a slow machine no group
    /// would ever come to its end.
    @Test func rowsStayHeldHoweverLongABarrierTakes() async throws {
        let options = ConnectionOptions(try await PostgresCluster.shared("source").createDatabase(prefix: "held"))
        var impatient = options
        let idle = patient(.milliseconds(1_000)).components.seconds
        impatient.settings.append((name: "idle_in_transaction_session_timeout", value: "\(idle)s"))
        let holder = try await PostgresConnection.connect(impatient)
        let (messenger, watcher) = (try await PostgresConnection.connect(options), try await PostgresConnection.connect(options))
        try await SplitBarrier.prepare(messenger)
        let ledger = try await Self.ledger(Self.progress(0, seen: 0), Self.progress(0, seen: 0))
        var barrier = SplitBarrier(connection: messenger, side: .other, reading: .origin, ledger: ledger, holder: holder)
        barrier.signMilliseconds = 50
        let pid = try #require(try await holder.query("SELECT pg_backend_pid()::text").firstValue)
        _ = try await holder.execute("BEGIN")
        async let passage: Void = Self.pass(barrier, on: holder)
        let age = "SELECT state_change - xact_start > '\(2 * idle) s' FROM pg_stat_activity WHERE pid = \(pid)"
        try await waitUntil("the transaction has lived for longer than it may be idle") {
            ledger.remind()
            return try await watcher.query(age).firstValue == "t"
        }
        var chunk = ChangeChunk()
        chunk.endLSN = LSN(.max)
        try await ledger.read(SplitChunk(chunk, tables: [:]), of: .other, sign: nil)
        try await passage
        _ = try await holder.execute("COMMIT")
        for connection in [holder, messenger, watcher] { await connection.close() }
    }

    private static func pass(_ barrier: SplitBarrier, on holder: isolated PostgresConnection) async throws {
        var barrier = barrier
        try await barrier.pass()
    }
}
