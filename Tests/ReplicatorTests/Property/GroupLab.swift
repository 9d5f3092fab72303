import Logging
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

/// Two databases, a slot on the first, and a way to apply its stream to the second in groups of any shape.
final class GroupLab {
    struct Outcome {
        var comparisons = 0
        var inBulk = 0
        /// Groups that were planned while the one before was applied.
        var ahead = 0
        var fallbacks = 0
        /// Transactions that were one statement each, with the progress.
        var fused = 0
        /// Chunks applied as the reader does it, and those that it left.
        var lent = 0
        var left = 0
        /// Sent behind one whose answer had not been taken.
        var behind = 0
        var cutTransactions = 0
        var streamed = 0
        var spills = 0
        /// Transactions that were applied before their commit was known.
        var early = 0
        /// Those that had to give way.
        var retracted = 0
        /// Times that the stream began anew: for a refused change, a table that did not fit, and as text.
        var refused = 0
        var mended = 0
        var asText = 0
        /// Groups that began while the one before was at work.
        var overlapped = 0
        /// Changes in the quarantine.
        var quarantined = 0
    }

    struct Differs: Error, CustomStringConvertible {
        let lsn: LSN
        let expected: String
        let found: String
        var description: String { "at \(lsn) the target is\n\(found)\nand the source was\n\(expected)" }
    }

    struct NoState: Error { let lsn: LSN }

    private let source: PostgresConnection
    private let settings: DirectionSettings
    private let isBinary: Bool
    /// Whether the source streams transactions beyond 64 kB while they run.
    private let isStreaming: Bool
    private let observer: PostgresConnection
    private var cuts: [Int] = []
    /// What the source held after each of its transactions.
    private var states: [(lsn: LSN, contents: String, refused: String)] = []

    init(binary: Bool, streaming: Bool = false) async throws {
        isBinary = binary
        isStreaming = streaming
        let pair = try await ReplicaPair(
            RandomTransactions.schema, targetSchema: RandomTransactions.schema + RandomTransactions.wariness)
        source = pair.source
        observer = pair.target
        if streaming { _ = try await source.execute("SET logical_decoding_work_mem = '64kB'") }
        var all = pair.settings
        all.policy = Self.policy(of: try await CatalogReader.tables(source))
        settings = all
        let settings = settings
        try await PostgresConnection.with(settings.target) { target in
            _ = try await Migrator(connection: target).migrate()
            try await DirectionRecord(connection: target, settings: settings).create(systemIdentifier: "1", startLSN: .zero)
        }
    }

    /// All of it comes from one side, and one table lets the stream go on.
    private static func policy(of tables: [TableDescription]) -> OwnershipPolicy {
        let rules = tables.map { table in
            let columns = table.columns.map(\.name) + (table.name.name == "grown" ? ["c1", "c2", "c3"] : [])
            var rule = TableOwnership(
                table: table.name, match: [], insertOwners: ["bot"], deleteOwners: ["bot"], privateColumns: [],
                columns: Dictionary(columns.map { ($0, .owned(by: "bot")) }, uniquingKeysWith: { first, _ in first }))
            if table.name.name == "wary" { rule.onError = .quarantine }
            return rule
        }
        return OwnershipPolicy(tables: Dictionary(rules.map { ($0.table, $0) }, uniquingKeysWith: { first, _ in first }))
    }

    func close() async {
        _ = try? await source.execute("SELECT pg_drop_replication_slot('\(settings.slot)')")
        await source.close()
        await observer.close()
    }

    func check(seed: UInt64, transactions: Int, outcome: inout Outcome) async throws {
        var workload = RandomTransactions(seed: seed, isPadded: isStreaming)
        try await check(
            scripts: (0..<transactions).map { _ in workload.script() }, seed: seed, wholeGroup: false, outcome: &outcome)
    }

    /// Runs the scripts on the source, and their stream on the target in groups that `seed` decides.
    ///
    /// - Parameter cuts: after which of the transactions a chunk ends, even in a whole group; the first is a group of its own.
    func check(
        scripts: [String], seed: UInt64, wholeGroup: Bool, cuts: [Int] = [], outcome: inout Outcome
    ) async throws {
        self.cuts = cuts
        states = []
        for side in [source, observer] { _ = try await side.execute(RandomTransactions.grown) }
        _ = try await observer.execute("TRUNCATE lindero.quarantine")
        var life = Life()
        if isBinary {
            life.binaryTypes = try await TablePairs.read(settings, source: source, target: observer).binaryTypes()
            #expect(life.binaryTypes != nil)
        }
        // Each stream begins with nothing, so that its seed alone brings it back.
        try await record(RandomTransactions.clear)
        for script in scripts { try await record(script) }
        var random = SeededGenerator(seed: seed)
        var messages = try await stream(binary: life.binaryTypes != nil)
        let cutBytes = wholeGroup ? 1 << 20 : random.pick([1 << 20, 3_000, 300])
        // A piece of a large transaction that failed in bulk is streamed again, and then applied in exact order.
        repeat {
            let wasBinary = life.binaryTypes != nil
            try await apply(messages, cutBytes: cutBytes, wholeGroup: wholeGroup, &random, &life, &outcome)
            if wasBinary, life.binaryTypes == nil { messages = try await stream(binary: false) }
        } while !life.isDone
        _ = try await source.execute("SELECT pg_replication_slot_advance('\(settings.slot)', pg_current_wal_insert_lsn())")
        try await checkQuarantine(&outcome)
    }

    /// Nothing is dropped in silence: what is missing in the end, waits.
    private func checkQuarantine(_ outcome: inout Outcome) async throws {
        let waiting = try await observer.query("SELECT count(*)::text FROM lindero.quarantine").firstValue.flatMap { Int($0) } ?? 0
        outcome.quarantined += waiting
        let missing = states.last?.refused.split(separator: ",").count ?? 0
        #expect(waiting >= missing)
    }

    /// From one start of the applier to its end or failure.
    private struct Life {
        var durable = LSN.zero
        var exactUpTo = LSN.zero
        var allowsEarly = true
        var quarantine = QuarantineOrders()
        /// `nil` for a stream of text.
        var binaryTypes: [UInt32: ColumnDescription]?
        var isDone = false
    }

    private func record(_ script: String) async throws {
        do {
            _ = try await source.execute(script)
        } catch {
            // Refused at the commit by a deferred constraint: nothing happened.
            _ = try? await source.execute("ROLLBACK")
        }
        let refused = try await source.query(RandomTransactions.refused).firstValue ?? ""
        let state = try await source.query(
            "SELECT pg_current_wal_insert_lsn()::text, (\(RandomTransactions.contents(without: refused)))")
        let row = try #require(state.rows.first)
        states.append((try #require(row[0].flatMap { LSN($0) }), row[1] ?? "", refused))
    }

    /// The slot's messages; they stay there, since the stream may begin anew in another form.
    private func stream(binary: Bool) async throws -> [(lsn: LSN, bytes: [UInt8])] {
        let result = try await source.query(
            """
            SELECT data, lsn FROM pg_logical_slot_peek_binary_changes('\(settings.slot)', NULL, NULL, 'proto_version', '2',
              'publication_names', 'p', 'binary', '\(binary)', 'messages', 'true', 'streaming', '\(isStreaming ? "on" : "off")')
            """, binaryResult: true)
        return (0..<result.rowCount).compactMap { row in
            guard let lsn = result.bytes(row: row, column: 1), let data = result.bytes(row: row, column: 0) else { return nil }
            return (LSN(lsn.reduce(0) { $0 << 8 | UInt64($1) }), data)
        }
    }

    private func apply(
        _ messages: [(lsn: LSN, bytes: [UInt8])], cutBytes: Int, wholeGroup: Bool, _ random: inout SeededGenerator, _ life: inout Life,
        _ outcome: inout Outcome
    ) async throws {
        let target = try await connectToApply()
        let second = random.chance(60) ? SecondSession(settings: settings, logger: Logger(label: "lab")) : nil
        let earlyFrom = life.allowsEarly && isStreaming && random.chance(80) ? max(life.durable, life.exactUpTo) : nil
        let chunks = try chunks(
            of: messages, cutBytes: cutBytes, wholeGroup: wholeGroup, earlyFrom: earlyFrom, &random, &outcome)
        outcome.retracted += chunks.count(where: \.retracts)
        outcome.cutTransactions += chunks.count(where: \.isOpenEnded)
        let waiting = WaitingGroups(
            group(chunks, wholeGroup: wholeGroup, &random).map { ($0, !wholeGroup && random.chance(60)) })
        let applier = GroupApplier(
            connection: target, settings: settings, state: DirectionState(),
            plans: PlanCache(
                settings: settings, isBinary: life.binaryTypes != nil, userTypes: life.binaryTypes ?? [:], copiedUpTo: [:]),
            startLSN: life.durable,
            exactUpTo: life.exactUpTo, quarantine: life.quarantine,
            limits: BulkLimits(
                guardedChanges: random.pick([0, 3, 32]), fusesAtOnce: random.chance(50), copiedRows: random.pick([1, 4, 200]),
                statementBytes: random.pick([1, 256 << 10])),
            second: second.map { second in { @Sendable in await second.open(beside: target) } },
            lookAhead: LookAhead(take: { _ in waiting.takeAhead() }, whenFull: { $0?() }))
        do {
            while true {
                let ahead = applier.takeAhead()
                if ahead != nil { outcome.ahead += 1 }
                guard let next = ahead ?? waiting.take().map({ PreparedGroup(chunks: $0) }) else { break }
                if ahead == nil, next.chunks.count == 1, StreamMailbox.mayBeLent(next.chunks[0]), random.chance(60) {
                    var lent = 1
                    var state = applier.sendLent(next.chunks[0], duties)
                    // As the reader does: others behind it, whether it is answered or not.
                    while state != .left, random.chance(60), let chunk = waiting.takeLendable() {
                        if random.chance(30) { state = applier.takeLent(isAwaited: random.chance(50), duties) }
                        if state == .left {
                            waiting.putBack(chunk)
                        } else {
                            if !applier.executor.lent.isEmpty { outcome.behind += 1 }
                            state = applier.sendLent(chunk, duties)
                            lent += 1
                        }
                    }
                    while state == .onItsWay || state == .refused { state = applier.takeLent(isAwaited: true, duties) }
                    outcome.lent += state == .left ? 0 : lent
                    outcome.left += state == .left ? 1 : 0
                    if state != .left, applier.appliedLSN > .zero { try await compare(at: applier.appliedLSN, &outcome) }
                    continue
                }
                try await applier.apply(next)
                // Before the first commit there is nothing to compare with.
                if next.chunks.last?.isOpenEnded == false, applier.appliedLSN > .zero { try await compare(at: applier.appliedLSN, &outcome) }
            }
            life.isDone = true
        } catch {
            try await handle(error, &life, &outcome)
        }
        life.durable = applier.appliedLSN
        let counters = applier.takeCounters()
        outcome.fallbacks += counters.fallbacks
        outcome.fused += counters.fused
        outcome.inBulk += counters.changes
        outcome.overlapped += counters.overlapped
        await second?.close()
        await target.close()
    }

    /// What the supervisor does, and a person with what it says.
    private func handle(_ error: any Error, _ life: inout Life, _ outcome: inout Outcome) async throws {
        life.allowsEarly = true
        switch error {
        case ApplyError.bulkFailed(let upTo): life.exactUpTo = upTo
        case ApplyError.tooEarly: life.allowsEarly = false
        case ApplyError.needsText:
            life.binaryTypes = nil
            outcome.asText += 1
        case ApplyError.schemaDiffers(let mismatch):
            let table = try await CatalogReader.tables(source, matching: [mismatch.table]).first
            for problem in mismatch.problems {
                _ = try await observer.execute(MendingSQL.statement(for: problem, table: mismatch.table, source: table))
            }
            outcome.mended += 1
        default:
            guard let (change, reason) = QuarantineOrders.order(for: error, settings), life.quarantine.add(change, because: reason)
            else { throw error }
            life.exactUpTo = max(life.exactUpTo, change.commitLSN)
            outcome.refused += 1
        }
    }

    /// What the reader sees to meanwhile.
    private var duties: GroupApplier.LentDuties { GroupApplier.LentDuties(whileWaiting: {}) }

    private func connectToApply() async throws -> PostgresConnection {
        let target = try await PostgresConnection.connect(settings.applyOptions)
        try await DirectionRun.commitAsynchronously(target)
        // The session before may still be on its way out.
        try await waitUntil("the origin is free") {
            do {
                _ = try await ProgressOrigin(connection: target, direction: settings.name).acquire()
                return true
            } catch let error as PostgresError where error.isObjectInUse {
                return false
            }
        }
        return target
    }

    private func chunks(
        of messages: [(lsn: LSN, bytes: [UInt8])], cutBytes: Int, wholeGroup: Bool, earlyFrom: LSN?,
        _ random: inout SeededGenerator, _ outcome: inout Outcome
    ) throws -> [ChangeChunk] {
        var intake = LabIntake(
            limitBytes: random.pick([2_000, 50_000, 4 << 20]), cutBytes: cutBytes, earlyFrom: earlyFrom)
        var chunks: [ChangeChunk] = []
        var commits = 0
        for message in messages {
            chunks += try intake.read(message.bytes, at: message.lsn)
            if message.bytes.first == UInt8(ascii: "C") { commits += 1 }
            if cuts.contains(commits) { while let chunk = intake.assembler.take() { chunks.append(chunk) } }
            if !wholeGroup, random.chance(15) { while let chunk = intake.assembler.take() { chunks.append(chunk) } }
        }
        while let chunk = intake.assembler.take() { chunks.append(chunk) }
        outcome.streamed += intake.streamedCount
        outcome.early += intake.earlyCount
        outcome.spills += intake.spillCount
        return chunks
    }

    /// A piece of a large transaction stands alone, as the mailbox hands it out.
    private func group(
        _ chunks: [ChangeChunk], wholeGroup: Bool, _ random: inout SeededGenerator
    ) -> [[ChangeChunk]] {
        var groups: [[ChangeChunk]] = []
        let joining = random.pick([60, 20])
        for chunk in chunks {
            let joins = wholeGroup ? cuts.isEmpty || groups.count > 1 : random.chance(joining)
            let alone = chunk.isOpenEnded || chunk.retracts
            if joins, !alone, let last = groups.last?.last, !last.isOpenEnded, !last.retracts {
                groups[groups.count - 1].append(chunk)
            } else {
                groups.append([chunk])
            }
        }
        return groups
    }

    private func compare(at lsn: LSN, _ outcome: inout Outcome) async throws {
        guard let state = states.first(where: { $0.lsn >= lsn }) else { throw NoState(lsn: lsn) }
        let found = try await observer.query(RandomTransactions.contents(without: state.refused)).firstValue ?? ""
        outcome.comparisons += 1
        if found != state.contents { throw Differs(lsn: lsn, expected: state.contents, found: found) }
    }
}

/// The groups of a stream; some of them have come when the applier looks ahead.
private final class WaitingGroups: Sendable {
    private let groups: Mutex<[(chunks: [ChangeChunk], isEarly: Bool)]>

    init(_ groups: [(chunks: [ChangeChunk], isEarly: Bool)]) { self.groups = Mutex(groups) }

    func take() -> [ChangeChunk]? { groups.withLock { $0.isEmpty ? nil : $0.removeFirst().chunks } }

    func takeAhead() -> [ChangeChunk]? {
        groups.withLock { groups in
            guard let next = groups.first, next.isEarly else { return nil }
            groups.removeFirst()
            return next.chunks
        }
    }

    /// The next group, if the reader may have it applied.
    func takeLendable() -> ChangeChunk? {
        groups.withLock { groups in
            guard let next = groups.first?.chunks, next.count == 1, StreamMailbox.mayBeLent(next[0]) else { return nil }
            groups.removeFirst()
            return next[0]
        }
    }

    func putBack(_ chunk: ChangeChunk) { groups.withLock { $0.insert(([chunk], false), at: 0) } }
}
