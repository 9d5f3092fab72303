import CLibPQ

extension LibPQSession {
    enum CopyStep { case data, wouldBlock, end }

    /// libpq's own buffer never holds much more than this of a COPY in.
    private static let sliceBytes = 256 << 10

    /// Starts a COPY, or a stream.
    func beginCopy(_ sql: String, _ wanted: Mode) throws(PostgresError) {
        guard PQsendQuery(try idle(), sql) == 1 else { throw notSent() }
        try flush()
        guard let result = try nextResult() else {
            throw .protocolViolation("the server did not answer to COPY")
        }
        let status = result.status
        switch (status, wanted) {
        case (PGRES_COPY_OUT, .copyOut), (PGRES_COPY_IN, .copyIn), (PGRES_COPY_BOTH, .stream): mode = wanted
        default: throw try refused(result, wanted)
        }
    }

    /// The statement did something else: reads it to its end.
    private func refused(_ result: borrowing RawResult, _ wanted: Mode) throws(PostgresError) -> PostgresError {
        let failure: PostgresError
        switch result.status {
        case PGRES_COPY_OUT, PGRES_COPY_IN, PGRES_COPY_BOTH, PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
            failure = .protocolViolation("the statement does not begin what was to be begun (\(wanted))")
        default: failure = error(in: result)
        }
        if result.status == PGRES_COPY_IN, PQputCopyEnd(try opened(), "not expected here") != 1 { throw lost() }
        if result.status == PGRES_COPY_OUT { try discardCopy() }
        if isOpen {
            try flush()
            while try nextResult() != nil {}
        }
        return failure
    }

    /// Appends the next CopyData message, if it is there already. At `.end` the results are still to be read.
    func takeCopyData(into bytes: inout [UInt8]) throws(PostgresError) -> CopyStep {
        var row: UnsafeMutablePointer<CChar>?
        let length = PQgetCopyData(try opened(), &row, 1)
        guard let row, length > 0 else {
            if length == 0 { return .wouldBlock }
            if length == -1 { return .end }
            throw lost()
        }
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: row, count: Int(length)))
        PQfreemem(row)
        return .data
    }

    /// How long the pieces of a COPY gather: of 8 kB each, a socket's buffer holds what comes in about a millisecond.
    private static let copyPauseNanoseconds = 600_000

    /// Reads a COPY out until `minimumBytes` are there; nil at its end.
    func readCopy(minimumBytes: Int) throws(PostgresError) -> [UInt8]? {
        if mode == .copyOutEnded {
            mode = .idle
            return nil
        }
        guard mode == .copyOut else { throw .protocolViolation("no COPY out is open") }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(minimumBytes, 1 << 20) + 8_192)
        var isSocketRead = false
        var hasRested = false
        while bytes.isEmpty || bytes.count < minimumBytes {
            switch try takeCopyData(into: &bytes) {
            case .data:
                isSocketRead = false
                hasRested = false
            case .wouldBlock:
                if isSocketRead {
                    // The server sends 8 kB at a time, and each would wake this thread.
                    if !bytes.isEmpty && !hasRested {
                        Self.rest(nanoseconds: Self.copyPauseNanoseconds)
                        hasRested = true
                    } else {
                        try wait(reading: true, writing: false)
                    }
                }
                try consume()
                isSocketRead = true
            case .end:
                mode = .idle
                _ = try lastResult()
                if bytes.isEmpty { return nil }
                // What was read is delivered first; the next call tells the end.
                mode = .copyOutEnded
                return bytes
            }
        }
        return bytes
    }

    /// Sends CopyData. libpq buffers what the socket does not take; flushing each slice bounds that.
    func putCopyData(_ bytes: [UInt8]) throws(PostgresError) {
        var offset = 0
        while offset < bytes.count {
            let length = min(bytes.count - offset, Self.sliceBytes)
            let handle = try opened()
            let sent = bytes.withUnsafeBytes { buffer in
                PQputCopyData(
                    handle, buffer.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self), CInt(length))
            }
            guard sent >= 0 else { throw notSent() }
            if sent == 1 { offset += length }
            try flush()
        }
    }

    func writeCopy(_ bytes: [UInt8]) throws(PostgresError) {
        guard mode == .copyIn else { throw .protocolViolation("no COPY in is open") }
        try putCopyData(bytes)
    }

    /// A COPY in from its beginning to its end.
    func copyIn(_ sql: String, _ write: (inout [UInt8], Int) -> Bool) throws(PostgresError) -> Int {
        try beginCopy(sql, .copyIn)
        var piece: [UInt8] = []
        piece.reserveCapacity(Self.sliceBytes + 8_192)
        var hasMore = true
        while hasMore {
            piece.removeAll(keepingCapacity: true)
            hasMore = write(&piece, Self.sliceBytes)
            try putCopyData(piece)
        }
        return try endCopyIn(failing: nil)
    }

    /// Ends a COPY in; with a reason, the server throws it away.
    func endCopyIn(failing reason: String?) throws(PostgresError) -> Int {
        // A cancelled COPY has ended already, as wished.
        if reason != nil, mode == .idle { return 0 }
        guard mode == .copyIn else { throw .protocolViolation("no COPY in is open") }
        try putCopyEnd(reason)
        mode = .idle
        do throws(PostgresError) {
            return try lastResult().affectedRows
        } catch {
            guard reason != nil, error.sqlState == SQLState("57014") else { throw error }
            return 0
        }
    }

    /// Says that no more CopyData follows.
    func putCopyEnd(_ reason: String?) throws(PostgresError) {
        while true {
            let sent = PQputCopyEnd(try opened(), reason)
            guard sent >= 0 else { throw notSent() }
            if sent == 1 { break }
            try flush()
        }
        try flush()
    }
}
