import PostgresClient
import ReplicationCore

/// Reads one replication stream: the only task that touches the replication connection, status updates included.
struct StreamReader {
    let stream: ReplicationConnection
    let mailbox: StreamMailbox
    let state: DirectionState
    /// The server's `wal_sender_timeout`; feedback is due well before it.
    let senderTimeoutMilliseconds: Int
    /// A chunk ends where it reaches one of them; the applier joins whole chunks.
    let limits: GroupLimits

    /// Reads until the task is cancelled or `state.isDraining`, then tells the server the last durable LSN.
    func run() async throws {
        var decoder = PGOutputDecoder(protocolVersion: StreamOptions.protocolVersion)
        var assembler = TransactionAssembler()
        var schedule = FeedbackSchedule(
            senderTimeoutMilliseconds: senderTimeoutMilliseconds, startedAtMilliseconds: Monotonic.milliseconds())
        defer { mailbox.close() }
        while !Task.isCancelled && !state.isDraining {
            if mailbox.isFull {
                await mailbox.waitForSpace(timeoutMilliseconds: 200)
            } else {
                let batch = try await stream.receive(
                    maximumBytes: min(512 << 10, limits.bytes), waitMilliseconds: 200, isWorthGathering: { [mailbox] in mailbox.isBehind })
                for range in batch.messages {
                    try read(batch.bytes, range, &decoder, &assembler, &schedule)
                    if assembler.changeCount >= limits.changes, !assembler.isInTransaction, let chunk = assembler.take() {
                        mailbox.put(chunk)
                    }
                }
                if let chunk = assembler.take() { mailbox.put(chunk) }
                if batch.isEnd { throw PostgresError.closed("The server ended the replication stream.") }
            }
            try await report(&schedule)
        }
        mailbox.close()
        if state.isDraining { try await finish() }
    }

    private func read(
        _ bytes: [UInt8], _ range: Range<Int>, _ decoder: inout PGOutputDecoder,
        _ assembler: inout TransactionAssembler, _ schedule: inout FeedbackSchedule
    ) throws {
        switch try ReplicationFrame(bytes, range) {
        case .xLogData(let startLSN, _, _, let payload):
            let message = try decoder.decode(bytes, payload, into: &assembler.arena)
            try assembler.handle(message)
            if startLSN != .zero { state.note(received: startLSN) }
        case .keepalive(let endLSN, _, let replyRequested):
            // Between transactions the server has nothing for us before this position.
            assembler.handleIdle(at: endLSN)
            if !assembler.isInTransaction { state.note(received: endLSN) }
            if replyRequested { schedule.handleReplyRequest() }
        }
    }

    private func report(_ schedule: inout FeedbackSchedule) async throws {
        let durable = state.durableLSN
        guard schedule.isDue(durableLSN: durable, atMilliseconds: Monotonic.milliseconds()) else { return }
        try await send(received: max(state.receivedLSN, durable), durable: durable)
        schedule.handleSent(durableLSN: durable, atMilliseconds: Monotonic.milliseconds())
    }

    /// Waits for the applier, then leaves the slot exactly where the data is.
    private func finish() async throws {
        await state.waitForApplier()
        let durable = state.durableLSN
        try await send(received: max(state.receivedLSN, durable), durable: durable)
        try await stream.stop()
    }

    private func send(received: LSN, durable: LSN) async throws {
        try await stream.sendStatus(
            received: received.rawValue, flushed: durable.rawValue, applied: durable.rawValue, replyRequested: false)
    }
}

/// What is asked of pgoutput.
enum StreamOptions {
    static let protocolVersion = 1

    static func list(publication: String, isBinary: Bool) -> [(String, String)] {
        [
            ("proto_version", "\(protocolVersion)"),
            ("publication_names", SQLText.identifier(publication)),
            ("messages", "true"),
        ] + (isBinary ? [("binary", "true")] : [])
    }
}
