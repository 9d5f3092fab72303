import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Sequences that were shared with a side that is lost.
@Suite struct LoneSequencesTests {
    @Test(arguments: ReplicationSettings.Sequences.allCases)
    func theyGoOnBehindEverythingThatIsKnownWhileOthersTakeNumbers(mode: ReplicationSettings.Sequences) async throws {
        let scene = try await SequenceScene(mode: mode)
        let before = try await SequenceScene.settings(scene.bot)
        _ = try await scene.split.apply()
        var given: [String: [Int64]] = [:]
        for table in SequenceScene.shared {
            let here = try await SequenceScene.insert(50, into: table, scene.bot)
            let there = try await SequenceScene.insert(80, into: table, scene.sync)
            try await scene.carry(there, table, to: scene.bot)
            given[table] = here + there
        }
        let writer = Task {
            try await PostgresConnection.with(scene.botOptions) { connection in
                var numbers: [Int64] = []
                for _ in 0..<200 { numbers += try await SequenceScene.insert(1, into: SequenceScene.shared[0], connection) }
                return numbers
            }
        }
        #expect(try await LoneSequences(name: "bot", connection: scene.bot).restore() == StayingSequences())
        given[SequenceScene.shared[0], default: []] += try await writer.value
        #expect(try await SequenceScene.settings(scene.bot) == before)
        #expect(try await scene.bot.query("SELECT FROM lindero.sequence_split").rowCount == 0)
        for table in SequenceScene.shared {
            given[table, default: []] += try await SequenceScene.insert(20, into: table, scene.bot)
            #expect(Set(given[table] ?? []).count == given[table]?.count, "\(table)")
        }
        #expect(try await LoneSequences(name: "bot", connection: scene.bot).restore() == StayingSequences())
        for side in [scene.bot, scene.sync] { await side.close() }
    }

    /// Of one that no column uses any more the settings come back; of one that is gone only the note goes.
    @Test func oneWithoutAColumnAndOneThatIsGoneAreNoHindrance() async throws {
        let scene = try await SequenceScene()
        let before = try await SequenceScene.settings(scene.bot)
        _ = try await scene.split.apply()
        let split = try await SequenceScene.settings(scene.bot)
        #expect(split != before)
        _ = try await scene.bot.execute("ALTER TABLE public.invoices ALTER number DROP DEFAULT; ALTER TABLE public.receipts ALTER number DROP DEFAULT")
        _ = try await scene.bot.execute(
            "INSERT INTO lindero.sequence_split (schema_name, sequence_name, mode, increment, minimum, maximum, start) VALUES ('public', 'gone', 'interleave', 1, 1, 9, 1)")
        _ = try await LoneSequences(name: "bot", connection: scene.bot).restore()
        #expect(try await SequenceScene.settings(scene.bot) == before)
        #expect(try await scene.bot.query("SELECT FROM lindero.sequence_split").rowCount == 0)
        for side in [scene.bot, scene.sync] { await side.close() }
    }

    /// A sequence that somebody has taken a number of in a transaction that does not end, as `ALTER SEQUENCE` waits for it.
    @Test func oneThatIsInUseAllTheTimeIsNamed() async throws {
        let scene = try await SequenceScene()
        _ = try await scene.split.apply()
        let holder = try await PostgresConnection.connect(scene.botOptions)
        _ = try await holder.execute("BEGIN")
        _ = try await SequenceScene.insert(1, into: SequenceScene.shared[0], holder)
        let failure = await #expect(throws: ReplicationFailure.self) {
            _ = try await LoneSequences(name: "bot", connection: scene.bot, limitMilliseconds: 300).restore()
        }
        #expect(failure?.code == .sequencesShared && failure?.message.contains("is in use all the time") == true, "\(String(describing: failure))")
        _ = try await holder.execute("COMMIT")
        _ = try await LoneSequences(name: "bot", connection: scene.bot).restore()
        #expect(try await scene.bot.query("SELECT FROM lindero.sequence_split").rowCount == 0)
        await holder.close()
        for side in [scene.bot, scene.sync] { await side.close() }
    }

    /// Rows that the other side alone made came with its numbers; this side's sequence stands where it was.
    @Test func oneThatWasNeverSharedGoesOnBehindWhatCame() async throws {
        let scene = try await SequenceScene()
        _ = try await scene.split.apply()
        try await scene.carry([1, 2, 70], "rooms", to: scene.bot)
        let before = try await SequenceScene.settings(scene.bot).filter { $0.contains("rooms") }
        _ = try await LoneSequences(name: "bot", connection: scene.bot, tables: [QualifiedName(schema: "public", name: "rooms")]).restore()
        #expect(try await SequenceScene.insert(2, into: "rooms", scene.bot) == [71, 72])
        #expect(try await SequenceScene.settings(scene.bot).filter { $0.contains("rooms") } == before)
        // Nothing is ahead of the last number of all: it is named, and in nobody's way.
        try await scene.carry([Int64(Int32.max)], "rooms", to: scene.bot)
        let staying = try await LoneSequences(name: "bot", connection: scene.bot, tables: [QualifiedName(schema: "public", name: "rooms")]).restore()
        #expect(staying.behind == [QualifiedName(schema: "public", name: "rooms_id_seq")] && staying.halves.isEmpty)
        for side in [scene.bot, scene.sync] { await side.close() }
    }

    /// The far half was never used, and of the near one no row is left: what its side gave lies before it all the same.
    @Test func theFarHalfGoesOnBehindTheNearOne() async throws {
        let scene = try await SequenceScene(mode: .ranges)
        _ = try await scene.split.apply()
        let half = try #require(try await scene.sync.query("SELECT seqmin::text FROM pg_sequence WHERE seqrelid = 'public.leads_id_seq'::regclass").firstValue)
        _ = try await LoneSequences(name: "sync", connection: scene.sync).restore()
        #expect(try await SequenceScene.insert(1, into: "leads", scene.sync).map { "\($0)" } == [half])
        for side in [scene.bot, scene.sync] { await side.close() }
    }

    /// What a text holds nobody can compare: its half can't meet the other one's, so it stays.
    @Test func oneWhoseNumbersNobodyCanReadKeepsItsHalf() async throws {
        let scene = try await SequenceScene()
        _ = try await scene.split.apply()
        _ = try await scene.bot.execute("ALTER TABLE public.receipts ALTER number TYPE text")
        let split = try await SequenceScene.settings(scene.bot).filter { $0.contains("common") }
        let kept = try await LoneSequences(name: "bot", connection: scene.bot).restore()
        #expect(kept.halves == [QualifiedName(schema: "public", name: "common")])
        #expect(try await SequenceScene.settings(scene.bot).filter { $0.contains("common") } == split)
        #expect(try await scene.bot.query("SELECT sequence_name FROM lindero.sequence_split").firstValue == "common")
        for side in [scene.bot, scene.sync] { await side.close() }
    }
}
