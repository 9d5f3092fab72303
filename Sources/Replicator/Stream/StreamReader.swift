import Glibc
import PostgresClient
import ReplicationCore

/// Reads one replication stream: the only task that touches the replication connection, status updates included.
struct StreamReader {
    /// How long a wait may last before the server has to hear of us.
    private static let waitMilliseconds = 100
    /// How often it is looked for answers of the target's, at least.
    private static let lookMilliseconds: Int64 = 5
    /// How long what nobody waits for may gather.
    private static let restNanoseconds = 2_000_000
    /// How much may be read before it is asked whether the server has to hear of us: on a busy machine the rest can take long.
    private static let readBytes = 64 << 10
    /// How old a transaction is when the source sends it, by the source's own clock, that belongs to a backlog.
    private static let backlogMicroseconds: Int64 = 1_000_000
    /// A stream keeps coming if it brings so much in such a time, and is never quiet for half of it.
    private static let flowBytes = 64 << 10
    private static let flowMilliseconds: Int64 = 20

    let stream: ReplicationConnection
    let mailbox: StreamMailbox
    let state: DirectionState
    /// The server's `wal_sender_timeout`; feedback is due well before it.
    let senderTimeoutMilliseconds: Int
    /// A chunk ends where it reaches one of them; the applier joins whole chunks.
    let limits: GroupLimits
    /// For transactions that are streamed while they run; `nil` when none were asked for.
    var spill: StreamSpill?
    /// From where on a streamed transaction may be applied before its commit; `nil` if none may.
    var earlyFrom: LSN?
    /// Whether it ends by itself once the direction is to be drained.
    var stopsOnDrain = true
    /// Whether what was read waits to be applied: then messages may gather. `nil` where the mailbox itself tells.
    var isBehind: (@Sendable () -> Bool)?
    /// Whether prepared transactions come when they are prepared.
    var isTwoPhase = false
    /// Of a split: what need not be read, and whether little else is to come.
    var echoes: EchoFilter?
    var isEchoing: (@Sendable () -> Bool)?
    /// Told whether there is a backlog, where not the mailbox but what is behind it makes the groups.
    var noteBacklog: (@Sendable (Bool) -> Void)?
    /// What its tables are called, by OID, whatever the stream calls them.
    var names: [UInt32: QualifiedName] = [:]

    /// What one stream has been read to.
    private struct Life {
        var decoder: PGOutputDecoder
        var assembler: TransactionAssembler
        var streamed: StreamedTransactions?
        var early: EarlyReplay?
        var patience = EarlyPatience()
        /// The furthest position that the stream has shown.
        var reached = LSN.zero
        var schedule: FeedbackSchedule
        var echoes: EchoFilter?
        var quietAtMilliseconds: Int64 = 0
        var lookedAtMilliseconds: Int64 = 0
        /// When the source sent the last message, and when what was delivered last had been committed.
        var sentAt = PostgresTime(microseconds: 0)
        var committedAt = PostgresTime(microseconds: 0)
        /// What has come since then.
        var flowBytes = 0
        var flowBeganAtMilliseconds: Int64 = 0
        /// What that came to last.
        var isBacklog = false

        var isBehind: Bool { sentAt.microseconds - committedAt.microseconds >= StreamReader.backlogMicroseconds }

        /// Whether what comes is a backlog that goes on; `nil` while that is open.
        mutating func judge(_ bytes: Int, atMilliseconds now: Int64) -> Bool? {
            flowBytes += bytes
            guard bytes == 0 || now - flowBeganAtMilliseconds >= StreamReader.flowMilliseconds else { return nil }
            defer { (flowBytes, flowBeganAtMilliseconds) = (0, now) }
            isBacklog = bytes > 0 && flowBytes >= StreamReader.flowBytes && isBehind
            return isBacklog
        }
    }

    /// Reads until the task is cancelled or `state.isDraining`, then tells the server the last durable LSN.
    func run() async throws { try await stream.reading { stream in try await run(on: stream) } }

    /// Runs on the stream's own thread: what comes is decoded where it comes.
    private func run(on stream: isolated ReplicationConnection) async throws {
        var life = Life(
            decoder: PGOutputDecoder(
                protocolVersion: StreamOptions.protocolVersion(isStreaming: spill != nil, isTwoPhase: isTwoPhase)),
            // A piece of a large transaction is no larger than a group may be, nor made of blocks that the system takes
            // back each time: faulting them in anew cost a fifth of the worker.
            assembler: TransactionAssembler(cutBytes: min(Int(LargeBlocks.leastBytes), limits.bytes)),
            streamed: spill.map { StreamedTransactions(limitBytes: $0.settings.replication.streamedBytes) },
            early: spill == nil ? nil : earlyFrom.map { EarlyReplay(fromLSN: $0) },
            schedule: FeedbackSchedule(
                senderTimeoutMilliseconds: senderTimeoutMilliseconds,
                startedAtMilliseconds: Monotonic.milliseconds()),
            echoes: echoes)
        let beside = BesideSession(connection: { [mailbox] in mailbox.lentConnection }, take: { [mailbox] in mailbox.takeLent() })
        defer {
            mailbox.settleLent { try? report(&life.schedule) }
            mailbox.close()
        }
        while !isOver {
            if mailbox.isFull {
                mailbox.waitForSpaceBlocking(timeoutMilliseconds: Self.waitMilliseconds)
            } else {
                if isEchoing?() == true { Self.rest() }
                // Nobody waits for the middle of a large transaction.
                let isInLarge = life.assembler.hasBegun(bytes: Self.readBytes)
                let batch = try stream.receiveBlocking(
                    maximumBytes: min(512 << 10, limits.bytes),
                    // Who waits for a full group, now or later, is to hear of the backlog's end at once.
                    waitMilliseconds: life.isBacklog ? Int(Self.flowMilliseconds) / 2 : Self.waitMilliseconds,
                    beside: beside,
                    isWorthGathering: { [mailbox, isBehind] in isInLarge || isBehind?() ?? mailbox.isBehind })
                reserve(for: batch, &life)
                var messages = batch.messages[...]
                var event = try read(batch.bytes, &messages, &life)
                while let known = event {
                    try await handle(known, &life)
                    try report(&life.schedule)
                    // What follows comes again.
                    event = isOver ? nil : try read(batch.bytes, &messages, &life)
                }
                if messages.isEmpty {
                    deliver(&life)
                    if spill != nil { try await spillOver(&life) }
                }
                takeLent(&life)
                if let isBacklog = life.judge(batch.bytes.count, atMilliseconds: Monotonic.milliseconds()) {
                    if let noteBacklog { noteBacklog(isBacklog) } else { mailbox.note(isBacklog: isBacklog) }
                }
                if batch.isEnd { throw PostgresError.closed("The server ended the replication stream.") }
            }
            try report(&life.schedule)
            let now = Monotonic.milliseconds()
            if life.patience.isOver(life.early, isHeldUp: mailbox.isFull, atMilliseconds: now) { giveUpEarly(&life) }
            if now - life.quietAtMilliseconds >= Int64(Self.waitMilliseconds) {
                life.quietAtMilliseconds = now
                mailbox.noteQuiet()
            }
        }
        giveUpEarly(&life)
        mailbox.settleLent { try? report(&life.schedule) }
        mailbox.close()
        if stopsOnDrain, state.isDraining { try await finish() }
    }

    /// Where the stream never rests, nobody waits beside it for the target's answers.
    private func takeLent(_ life: inout Life) {
        let now = Monotonic.milliseconds()
        guard mailbox.isLent, now - life.lookedAtMilliseconds >= Self.lookMilliseconds else { return }
        life.lookedAtMilliseconds = now
        if !mailbox.takeLent() { mailbox.settleLent { try? report(&life.schedule) } }
    }

    private static func rest() {
        var pause = timespec(tv_sec: 0, tv_nsec: restNanoseconds)
        nanosleep(&pause, nil)
    }

    private var isOver: Bool { Task.isCancelled || stopsOnDrain && state.isDraining }

    private func reserve(for batch: ReplicationBatch, _ life: inout Life) {
        if life.streamed?.isInSegment == true { return }
        let rowBytes = batch.bytes.count - batch.messages.count * (ReplicationFrame.dataHeadBytes + PGOutputDecoder.rowHeadBytes)
        life.assembler.reserve(bytes: max(0, rowBytes), messages: batch.messages.count)
    }

    /// Reads what has come, up to what others have to be waited for, and takes it out of `messages`.
    ///
    /// Not asynchronous, as all that is not streamed is read without waiting: each call that may wait has a cost.
    private func read(
        _ bytes: [UInt8], _ messages: inout ArraySlice<Range<Int>>, _ life: inout Life
    ) throws -> StreamedTransactions.Event? {
        var reportedBytes = messages.first?.lowerBound ?? 0
        while let range = messages.popFirst() {
            if range.lowerBound - reportedBytes >= Self.readBytes {
                reportedBytes = range.lowerBound
                try report(&life.schedule)
            }
            let event = try read(bytes, range, &life)
            switch event {
            case .kept, .began, .added, .changed: continue
            case .ordinary:
                let isFull = life.assembler.changeCount >= limits.changes && !life.assembler.isInTransaction
                if isFull { deliver(&life) }
            case .committed, .ended: return event
            }
        }
        return nil
    }

    /// Sees to what a streamed transaction has come to.
    private func handle(_ event: StreamedTransactions.Event, _ life: inout Life) async throws {
        switch event {
        case .committed(let commit): try await replay(commit, &life)
        case .ended(let xid, let hasFile): if hasFile { await spill?.folder.remove(xid) }
        case .kept, .began, .added, .changed, .ordinary: return
        }
    }

    /// A transaction that may not have committed is not waited for.
    private func giveUpEarly(_ life: inout Life) {
        life.early?.retract(&life.assembler)
        deliver(&life)
    }

    private func deliver(_ life: inout Life) {
        while let chunk = life.assembler.take() {
            if let last = chunk.transactions.last { life.committedAt = last.commitTime }
            // A stream that is broken says so at its next read.
            if mailbox.offer(chunk, whileWaiting: { try? report(&life.schedule) }) { continue }
            // Whatever waits for the applier to come for it would wait for the answers, too.
            if !chunk.isPosition { mailbox.settleLent { try? report(&life.schedule) } }
            mailbox.put(chunk)
        }
    }

    private func read(
        _ bytes: [UInt8], _ range: Range<Int>, _ life: inout Life
    ) throws -> StreamedTransactions.Event {
        switch try ReplicationFrame(bytes, range) {
        case .xLogData(let startLSN, _, let sentAt, let payload):
            life.sentAt = sentAt
            life.reached = max(life.reached, startLSN)
            if startLSN != .zero { state.note(received: startLSN) }
            let announcement = life.streamed == nil ? 0 : life.assembler.nextAnnouncement()
            let event = try life.streamed?.handle(bytes, payload, announcement: announcement) ?? .ordinary
            if case .ordinary = event {
                if try life.early?.takes(bytes, payload, &life.assembler) == true { return event }
                if life.echoes?.leavesOut(bytes, payload, life.assembler.relations) == true { return event }
                var message = try life.decoder.decode(bytes, payload, into: &life.assembler.arena)
                if case .relation(let relation, let xid) = message, let name = names[relation.id] {
                    message = .relation(relation.named(name), xid: xid)
                }
                try life.echoes?.note(message)
                try life.assembler.handle(message)
                return event
            }
            let isCut = life.assembler.isCut
            let isDone = try life.early?.handle(
                event, bytes, payload, reached: life.reached, sentAt: sentAt, announcement: announcement,
                assembler: &life.assembler)
            guard isDone == true, case .committed(let commit) = event else { return event }
            state.note(streamed: 1, early: isCut ? 1 : 0)
            return .ended(xid: commit.xid, hasFile: commit.hasFile)
        case .keepalive(let endLSN, _, let replyRequested):
            // Between transactions the server has nothing for us before this position: whatever committed before it is
            // in the mailbox. A streamed transaction that still runs will commit behind it, and comes again whole if we
            // are gone by then; so it holds nothing back. One that is being replayed does, for nothing is read then.
            let isInside = life.assembler.isInTransaction || life.streamed?.isInSegment == true
            life.reached = max(life.reached, endLSN)
            if !isInside {
                life.assembler.handleIdle(at: endLSN)
                state.note(received: endLSN)
            }
            if replyRequested { life.schedule.handleReplyRequest() }
            return .kept
        }
    }

    // MARK: streamed transactions

    /// Feeds a committed transaction to the applier; nothing else is read from the stream meanwhile.
    private func replay(_ commit: StreamedCommit, _ life: inout Life) async throws {
        guard let folder = spill?.folder else { return }
        var replay = StreamReplay(commit)
        try replay.begin(&life.assembler)
        // What is in the file need not wait in memory: two chunks keep the applier at work.
        let enoughBytes = min(spill?.settings.replication.waitingBytes ?? 0, 2 * life.assembler.cutBytes)
        for piece in commit.pieces {
            while mailbox.holds(enoughBytes) && !isOver {
                mailbox.waitForSpaceBlocking(below: enoughBytes, timeoutMilliseconds: Self.waitMilliseconds)
                try report(&life.schedule)
            }
            if isOver { return }
            switch piece {
            case .memory(let bytes): try replay.feed(bytes, to: &life.assembler)
            case .file(let place, let length):
                let frames = try await folder.read(place, of: commit.xid)
                do {
                    try replay.feed(frames: frames, at: place, length: length, to: &life.assembler)
                } catch let damage as SpillFrame.Damage {
                    throw SpillError.damaged(file: folder.name(commit.xid), what: "\(damage)")
                }
            }
            deliver(&life)
            try report(&life.schedule)
        }
        try replay.end(&life.assembler)
        deliver(&life)
        state.note(streamed: 1, early: 0)
        if commit.hasFile { await folder.remove(commit.xid) }
    }

    /// Brings what is too much for memory into files. A full disk is waited out here, with the stream kept alive.
    private func spillOver(_ life: inout Life) async throws {
        guard let spill else { return }
        var isPaused = false
        while let next = life.streamed?.nextSpill() {
            while true {
                do {
                    try await spill.folder.write(next)
                    state.note(spilledBytes: next.sizeBytes)
                    break
                } catch SpillError.full {
                    if !isPaused {
                        giveUpEarly(&life)
                        mailbox.settleLent { try? report(&life.schedule) }
                        await spill.notePause(state)
                    }
                    isPaused = true
                    try await Task.sleep(for: .milliseconds(StreamSpill.retryMilliseconds))
                    try report(&life.schedule)
                    if isOver { return }
                }
            }
        }
        if isPaused { await spill.noteResumed(state) }
    }

    // MARK: status

    /// Tells the source how far we are, where that is due; on the stream's own thread.
    private func report(_ schedule: inout FeedbackSchedule) throws {
        let durable = state.durableLSN
        let now = Monotonic.milliseconds()
        guard schedule.isDue(durableLSN: durable, atMilliseconds: now) else { return }
        try send(durable: durable)
        schedule.handleSent(durableLSN: durable, atMilliseconds: now)
    }

    /// Waits for the applier, then leaves the slot exactly where the data is.
    private func finish() async throws {
        await state.waitForApplier()
        try send(durable: state.durableLSN)
        try await stream.stop()
    }

    private func send(durable: LSN) throws {
        let received = max(state.receivedLSN, durable)
        try stream.assumeIsolated {
            try $0.sendStatus(
                received: received.rawValue, flushed: durable.rawValue, applied: durable.rawValue, replyRequested: false)
        }
    }
}

/// What is asked of pgoutput.
enum StreamOptions {
    static func protocolVersion(isStreaming: Bool, isTwoPhase: Bool = false) -> Int {
        isTwoPhase ? 3 : isStreaming ? 2 : 1
    }

    static func list(
        publication: String, isBinary: Bool, isStreaming: Bool = false, isTwoPhase: Bool = false
    ) -> [(String, String)] {
        [
            ("proto_version", "\(protocolVersion(isStreaming: isStreaming, isTwoPhase: isTwoPhase))"),
            ("publication_names", SQLText.identifier(publication)),
            ("messages", "true"),
        ] + (isBinary ? [("binary", "true")] : []) + (isStreaming ? [("streaming", "on")] : [])
            + (isTwoPhase ? [("two_phase", "on")] : [])
    }
}
