import CLibPQ

extension LibPQSession {
    /// How long the server may take to come to the end of a stream that is stopped, or to take a status.
    static let stopMilliseconds = 10_000

    /// Takes the messages that are there, waiting for the first; an empty batch when none comes in time.
    func receive(maximumBytes: Int, waitMilliseconds: Int, capacity: Int) throws(PostgresError) -> ReplicationBatch {
        guard mode == .stream else { throw .protocolViolation("no replication stream is open") }
        let deadline = Deadline(milliseconds: max(0, waitMilliseconds))
        var batch = ReplicationBatch()
        batch.bytes.reserveCapacity(capacity)
        var isSocketRead = false
        while batch.bytes.count < maximumBytes || batch.messages.isEmpty {
            let start = batch.bytes.count
            switch try takeCopyData(into: &batch.bytes) {
            case .data:
                batch.messages.append(start..<batch.bytes.count)
                isSocketRead = false
            case .end:
                try endStream()
                batch.isEnd = true
                return batch
            case .wouldBlock:
                if isSocketRead {
                    // Nothing complete came since the socket was read last.
                    if !batch.messages.isEmpty { return batch }
                    do {
                        _ = try wait(reading: true, writing: false, until: deadline)
                    } catch .timeout {
                        return batch
                    }
                }
                try consume()
                isSocketRead = true
            }
        }
        return batch
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
            }
        }
        if let failure { throw failure }
    }

    /// Sends a standby status update.
    func putStatus(_ status: StandbyStatus) throws(PostgresError) {
        guard mode == .stream else { throw .protocolViolation("no replication stream is open") }
        try boundingStop { () throws(PostgresError) in try putCopyData(status.message) }
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
