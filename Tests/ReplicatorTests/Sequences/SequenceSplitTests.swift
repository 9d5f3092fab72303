import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Sequences of real servers, shared between two sides that write, and taken back.
@Suite struct SequenceSplitTests {
    @Test(arguments: ReplicationSettings.Sequences.allCases)
    func tenThousandRowsOnBothSidesGetNumbersOfTheirOwn(mode: ReplicationSettings.Sequences) async throws {
        let scene = try await SequenceScene(mode: mode)
        let before = (try await SequenceScene.settings(scene.bot), try await SequenceScene.settings(scene.sync))
        var given: [String: [Int64]] = [:]
        // The replica has the rows and not the sequences.
        for table in SequenceScene.shared + ["rooms"] {
            given[table] = try await SequenceScene.insert(300, into: table, scene.bot)
            try await scene.carry(given[table] ?? [], table, to: scene.sync)
        }
        #expect(try await scene.split.plan().isDone == false)
        let done = try await scene.split.apply()
        #expect(!done.hasProblem)
        #expect(try await scene.split.plan().isDone)
        let settings = (try await SequenceScene.settings(scene.bot), try await SequenceScene.settings(scene.sync))
        #expect(settings.0 != before.0 && settings.1 != before.1)
        // Once more changes nothing.
        _ = try await scene.split.apply()
        #expect(try await SequenceScene.settings(scene.bot) == settings.0)

        try await write(10_000, scene, &given)
        #expect(try await scene.split.plan().isDone)
        _ = try await scene.split.restore()
        #expect(try await SequenceScene.settings(scene.bot) == before.0)
        #expect(try await SequenceScene.settings(scene.sync) == before.1)
        #expect(try await scene.bot.query("SELECT 1 FROM lindero.sequence_split").rowCount == 0)
        // One side alone again, with everything of both.
        for table in SequenceScene.shared { given[table, default: []] += try await SequenceScene.insert(100, into: table, scene.bot) }
        expectDistinct(given)
        _ = try await scene.split.apply()
        try await write(500, scene, &given)
        try await drop(scene)
    }

    /// Both sides at once, three sessions each, every table.
    private func write(_ count: Int, _ scene: SequenceScene, _ given: inout [String: [Int64]]) async throws {
        let sessions = 3
        let all = try await withThrowingTaskGroup(of: [(String, [Int64])].self) { group in
            for number in 0..<(2 * sessions) {
                let options = number % 2 == 0 ? scene.botOptions : scene.syncOptions
                group.addTask {
                    try await PostgresConnection.with(options) { connection in
                        var numbers: [(String, [Int64])] = []
                        for table in SequenceScene.shared {
                            numbers.append((table, try await SequenceScene.insert(count / sessions + 1, into: table, connection)))
                        }
                        return numbers
                    }
                }
            }
            return try await group.reduce(into: [(String, [Int64])]()) { $0 += $1 }
        }
        for (table, numbers) in all { given[table, default: []] += numbers }
        expectDistinct(given)
    }

    private func expectDistinct(_ given: [String: [Int64]]) {
        for (table, numbers) in given { #expect(Set(numbers).count == numbers.count, "\(table)") }
        // One sequence numbers both.
        let common = (given["invoices"] ?? []) + (given["receipts"] ?? [])
        #expect(Set(common).count == common.count)
    }

    private func drop(_ scene: SequenceScene) async throws {
        await scene.bot.close()
        await scene.sync.close()
    }

    @Test func numbersTakenWhileItHappensAreNotGivenAgain() async throws {
        let scene = try await SequenceScene()
        let writers = (0..<3).map { _ in
            Task {
                try await PostgresConnection.with(scene.botOptions) { connection in
                    var numbers: [Int64] = []
                    while !Task.isCancelled { numbers += try await SequenceScene.insert(7, into: "Guests", connection) }
                    return numbers
                }
            }
        }
        try await waitUntil("somebody writes") {
            try await scene.bot.query("SELECT 1 FROM public.\"Guests\" LIMIT 1").rowCount == 1
        }
        var split = scene.split
        // Three of them hold it most of the time.
        split.limitMilliseconds = 60_000
        _ = try await split.apply()
        var numbers = try await SequenceScene.insert(3_000, into: "Guests", scene.sync)
        for writer in writers {
            writer.cancel()
            // Cut off in the middle or not, what is committed counts.
            _ = try? await writer.value
        }
        numbers += try await scene.bot.query("SELECT id::text FROM public.\"Guests\"").rows.compactMap { $0[0].flatMap { Int64($0) } }
        #expect(numbers.count > 3_000)
        #expect(Set(numbers).count == numbers.count)
        try await drop(scene)
    }

    @Test func whatAKillLeftHalfDoneIsDoneByTheNextCall() async throws {
        let scene = try await SequenceScene()
        let before = try await SequenceScene.settings(scene.sync)
        var numbers = try await SequenceScene.insert(5, into: "leads", scene.bot)
        _ = try await scene.split.apply()
        // As if the second commit had not come: the origin is as it was, and goes on giving.
        _ = try await scene.bot.execute(
            "DELETE FROM lindero.sequence_split WHERE sequence_name = 'leads_id_seq'; "
                + "ALTER SEQUENCE public.leads_id_seq INCREMENT 1 START 1 RESTART 6")
        numbers += try await SequenceScene.insert(50, into: "leads", scene.bot)
        #expect(try await scene.split.plan().isDone == false)
        _ = try await scene.split.apply()
        numbers += try await SequenceScene.insert(50, into: "leads", scene.bot)
        numbers += try await SequenceScene.insert(50, into: "leads", scene.sync)
        #expect(Set(numbers).count == numbers.count)
        // What was found at first is what comes back.
        _ = try await scene.split.restore()
        #expect(try await SequenceScene.settings(scene.sync) == before)
        try await drop(scene)
    }

    @Test func begunAgainTheTwoSidesStayApart() async throws {
        for mode in ReplicationSettings.Sequences.allCases {
            let scene = try await SequenceScene(mode: mode)
            _ = try await scene.split.apply()
            for side in [scene.bot, scene.sync] { _ = try await side.execute("TRUNCATE public.leads RESTART IDENTITY") }
            let numbers = try await SequenceScene.insert(100, into: "leads", scene.bot) + SequenceScene.insert(100, into: "leads", scene.sync)
            #expect(Set(numbers).count == 200)
            try await drop(scene)
        }
    }

    @Test func aSequenceInUseIsNamedAndNothingIsHalfDone() async throws {
        let scene = try await SequenceScene()
        let before = try await SequenceScene.settings(scene.sync)
        let writer = try await PostgresConnection.connect(scene.botOptions)
        _ = try await writer.execute("BEGIN; INSERT INTO public.\"Guests\" (v) VALUES (1)")
        let error = await #expect(throws: SequenceSplitError.self) { try await scene.split.apply() }
        guard case .locked(let name, "bot") = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(name.name == "Guests_id_seq")
        #expect(try await SequenceScene.settings(scene.sync) == before)
        _ = try await writer.execute("COMMIT")
        await writer.close()
        #expect(try await scene.split.apply().hasProblem == false)
        try await drop(scene)
    }

    /// In short tries: who only wants a number waits for a moment, and not for as long as the holder takes.
    @Test func numbersAreGivenWhileSomebodyHoldsASequence() async throws {
        let scene = try await SequenceScene()
        let split = SequenceSplit(origin: ("bot", scene.bot), other: ("sync", scene.sync), policy: scene.policy, mode: scene.mode)
        let holder = try await PostgresConnection.connect(scene.botOptions)
        let writer = try await PostgresConnection.connect(scene.botOptions)
        _ = try await holder.execute("BEGIN; INSERT INTO public.\"Guests\" (v) VALUES (1)")
        let applying = Task { try await split.apply() }
        for _ in 1...5 {
            try await waitUntil("the change waits for the holder") {
                try await writer.query("SELECT 1 FROM pg_locks WHERE relation = 'public.\"Guests_id_seq\"'::regclass AND NOT granted").rowCount > 0
            }
            _ = try await writer.query("INSERT INTO public.\"Guests\" (v) VALUES (2)")
        }
        // It has given way five times, and has not given up.
        _ = try await holder.execute("COMMIT")
        #expect(try await applying.value.hasProblem == false)
        for session in [holder, writer] { await session.close() }
        try await drop(scene)
    }

    @Test func whatCannotBeSharedIsNamedAndNothingIsChanged() async throws {
        var scene = try await SequenceScene(
            schema: SequenceScene.schema + """
                CREATE TABLE public.lonely (id int PRIMARY KEY, v int); CREATE TABLE public.round (id serial PRIMARY KEY, v int);
                CREATE TABLE public.small (id smallserial PRIMARY KEY, v int);
                """)
        for table in ["lonely", "round", "small"] { scene.add(table, match: "id", insert: ["bot", "sync"]) }
        _ = try await scene.bot.execute("ALTER TABLE public.lonely ALTER id ADD GENERATED BY DEFAULT AS IDENTITY; ALTER SEQUENCE public.round_id_seq CYCLE")
        _ = try await scene.bot.execute("SELECT setval('public.small_id_seq', 32767)")
        // One sequence here, two there.
        _ = try await scene.sync.execute("CREATE SEQUENCE public.own; ALTER TABLE public.receipts ALTER number SET DEFAULT nextval('public.own')")
        let before = try await SequenceScene.settings(scene.bot)
        let error = await #expect(throws: SequenceSplitError.self) { try await scene.split.apply() }
        guard case .blocked(let steps) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(steps.lonely.map(\.missingOn) == ["sync"])
        #expect(steps.tangled.map(\.name) == ["common"])
        let problems = steps.steps.compactMap(\.problem)
        #expect(problems == [
            .cycles(QualifiedName(schema: "public", name: "round_id_seq")), .exhausted(QualifiedName(schema: "public", name: "small_id_seq")),
        ])
        let words = SequenceWords(origin: "bot", other: "sync").problems(steps)
        #expect(words.count == 4 && words.allSatisfy { !$0.fix.isEmpty })
        #expect(try await SequenceScene.settings(scene.bot) == before)
        // The mend is SQL as it stands.
        let mend = try #require(words.map(\.fix).first { $0.hasPrefix("on sync: ") })
        _ = try await scene.sync.execute(String(mend.dropFirst(9)))
        #expect(try await scene.split.plan().lonely.isEmpty)
        try await drop(scene)
    }

    @Test func sequencesOfOneSideAloneAreSetAheadAndOtherwiseLeftAlone() async throws {
        let scene = try await SequenceScene()
        let rooms = try await SequenceScene.insert(20, into: "rooms", scene.bot)
        try await scene.carry(rooms, "rooms", to: scene.sync)
        _ = try await scene.split.apply()
        let settings = try await SequenceScene.settings(scene.sync).filter { $0.hasPrefix("public.rooms") }
        #expect(settings == ["public.rooms_id_seq 1 1 2147483647 1"])
        #expect(try await scene.sync.query("SELECT nextval('public.rooms_id_seq')::text").firstValue == "21")
        #expect(try await scene.sync.query("SELECT 1 FROM lindero.sequence_split WHERE sequence_name LIKE 'rooms%'").rowCount == 0)
        try await drop(scene)
    }

    @Test func theWayDownIsRefusedUntilSequencesAreRestored() async throws {
        let scene = try await SequenceScene()
        _ = try await scene.split.apply()
        await #expect(throws: PostgresError.self) { try await Migrator(connection: scene.sync).migrateDown() }
        var narrow = scene
        narrow.policy = OwnershipPolicy(tables: [:])
        // Nothing leads to them any more: that is said, not passed over.
        let error = await #expect(throws: SequenceSplitError.self) { try await narrow.split.restore() }
        guard case .blocked(let steps) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(steps.forgotten.count == 6)
        _ = try await scene.split.restore()
        for side in [scene.bot, scene.sync] { #expect(try await Migrator(connection: side).migrateDown().contains(11)) }
        try await drop(scene)
    }

    @Test func withoutTheSchemaNothingIsChanged() async throws {
        let scene = try await SequenceScene(migrates: false)
        let before = try await SequenceScene.settings(scene.bot)
        await #expect(throws: SequenceSplitError.self) { try await scene.split.apply() }
        #expect(try await SequenceScene.settings(scene.bot) == before)
        #expect(try await scene.split.plan().steps.count == 4)
        try await drop(scene)
    }
}
