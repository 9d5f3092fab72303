import CLibPQ
import Glibc

extension LibPQSession {
    /// How long the server may take to come to the end of a stream that is stopped, or to take a status.
    static let stopMilliseconds = 10_000

    /// How long messages may gather while there is little, and how much that is: who waits for it soon has nothing else to do.
    private static let shortPauseNanoseconds = 100_000
    private static let littleBytes = 4 << 10
    private static let fewMessages = 16
    /// How long one call may gather: the caller wants something to work on, too.
    private static let gatherMilliseconds = 4

    /// Takes the messages that are there, waiting for the first; an empty batch when none comes in time.
    ///
    /// - Parameter beside: a session whose answers are taken meanwhile.
    func receive(
        maximumBytes: Int, waitMilliseconds: Int, capacity: Int, beside: BesideSession?,
        isWorthGathering: () -> Bool
    ) throws(PostgresError) -> ReplicationBatch {
        try requireStream()
        let deadline = Deadline(milliseconds: max(0, waitMilliseconds))
        let gatherDeadline = Deadline(milliseconds: min(Self.gatherMilliseconds, max(0, waitMilliseconds)))
        var batch = ReplicationBatch()
        // Growing bit by bit costs more than a small transaction's room.
        batch.bytes.reserveCapacity(max(capacity, Self.littleBytes))
        batch.messages.reserveCapacity(Self.fewMessages)
        var isSocketRead = false
        // Where a pause brought nothing, another would only hold back what is here, and cost a change of threads.
        var hasRested = false
        // How much there was before the last pause.
        var before: (messages: Int, bytes: Int)?
        defer { noteGathered(batch, since: &before) }
        while batch.bytes.count < maximumBytes || batch.messages.isEmpty {
            let start = batch.bytes.count
            let taken = try takeCopyData(into: &batch.bytes)
            // Said before the first message that follows: nothing after it may count as received.
            if let omission { throw .server(omission) }
            switch taken {
            case .data:
                batch.messages.append(start..<batch.bytes.count)
                isSocketRead = false
                hasRested = false
            case .end:
                try endStream()
                batch.isEnd = true
                return batch
            case .wouldBlock:
                let isGathering = isWorthGathering()
                // Somebody waits for what is here: no call of the system to see whether there is more.
                if !batch.messages.isEmpty && !isGathering { return batch }
                // Nothing complete came since the socket was read last; or probably none has, since all of what had come was taken.
                if isSocketRead || !isGathering && !maySocketHide {
                    noteGathered(batch, since: &before)
                    if !hasRested && isGathering && !gatherDeadline.isPast {
                        pause(after: batch, noting: &before)
                        hasRested = true
                    } else if !batch.messages.isEmpty {
                        return batch
                    } else if try !waitForData(beside, until: deadline) {
                        return batch
                    }
                }
                try consume()
                isSocketRead = true
            }
        }
        return batch
    }

    /// Whether more may have been taken from the socket than was asked for: what has been read shows all at once.
    private var maySocketHide: Bool {
        guard let handle = try? opened() else { return true }
        return PQsslInUse(handle) != 0 || PQgssEncInUse(handle) != 0
    }

    private func waitForData(
        _ beside: BesideSession?, until deadline: Deadline
    ) throws(PostgresError) -> Bool {
        do {
            while let beside, let socket = beside.connection()?.lentSocket {
                let ready = try wait(beside: socket, until: deadline)
                let goesOn = !ready.beside || beside.take()
                if ready.here { return true }
                // Nobody waits for an answer any more, or somebody has to elsewhere.
                if !goesOn { return false }
            }
            return try wait(beside: nil, until: deadline).here
        } catch .timeout {
            return false
        }
    }

    /// Lets messages gather; where that is more than a little, what there was before is the measure of what comes.
    private func pause(after batch: ReplicationBatch, noting before: inout (messages: Int, bytes: Int)?) {
        if batch.bytes.count < Self.littleBytes { return Self.rest(nanoseconds: Self.shortPauseNanoseconds) }
        before = (batch.messages.count, batch.bytes.count)
        Self.rest(nanoseconds: gatherPause.nanoseconds)
    }

    /// What a pause has brought decides how long the next one is.
    private func noteGathered(_ batch: ReplicationBatch, since before: inout (messages: Int, bytes: Int)?) {
        guard let last = before else { return }
        before = nil
        gatherPause.note(
            messages: batch.messages.count - last.messages, bytes: batch.bytes.count - last.bytes)
    }

    static func rest(nanoseconds: Int) {
        var pause = timespec(tv_sec: 0, tv_nsec: nanoseconds)
        nanosleep(&pause, nil)
    }

    /// The server has ended its half of the stream; an error of its own is thrown.
    private func endStream() throws(PostgresError) {
        allow(milliseconds: Self.stopMilliseconds)
        mode = .idle
        var failure: PostgresError?
        while let result = try nextResult() {
            switch result.status {
            case PGRES_COPY_IN: try putCopyEnd(nil)
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK: continue
            default:
                let error = error(in: result)
                failure = failure ?? error
                guard isOpen else { throw error }
            }
        }
        if let failure { throw failure }
    }

    /// Sends a standby status update.
    func putStatus(_ status: StandbyStatus) throws(PostgresError) {
        try requireStream()
        try boundingStop { () throws(PostgresError) in try putCopyData(status.message) }
    }

    /// - Throws: `.closed` when the connection is lost: it may have been found so by who could not say it.
    private func requireStream() throws(PostgresError) {
        _ = try opened()
        guard mode == .stream else { throw .protocolViolation("no replication stream is open") }
    }

    /// Ends our half of the stream, reads and drops what is still on its way, and the results.
    func stopStream() throws(PostgresError) {
        guard mode == .stream else { return }
        try boundingStop { () throws(PostgresError) in
            try putCopyEnd(nil)
            try discardCopy()
            mode = .idle
            _ = try lastResult()
        }
    }

    /// A server that does not answer here is as good as gone.
    private func boundingStop(_ body: () throws(PostgresError) -> Void) throws(PostgresError) {
        allow(milliseconds: Self.stopMilliseconds)
        do {
            try body()
        } catch .timeout {
            let message = "the server did not answer within \(Self.stopMilliseconds / 1_000) s"
            close(message)
            throw .connection(ConnectionFailure(reason: .lost, message: message, target: options.description))
        }
    }
}
