import CLibPQ

extension LibPQSession {
    enum CopyStep { case data, wouldBlock, end }

    /// Starts a COPY of the expected direction.
    func beginCopy(_ sql: String, expecting expected: ExecStatusType, deadline: Deadline?) throws(PostgresError) {
        copyHasEnded = false
        guard PQsendQuery(try connection(), sql) == 1 else { throw lost() }
        try flush(deadline: deadline)
        guard let result = try nextResult(deadline: deadline) else { throw .protocolViolation("No answer to COPY.") }
        let status = PQresultStatus(result)
        if status == expected { return PQclear(result) }
        defer { PQclear(result) }
        let failure: PostgresError
        do {
            _ = try decode(result)
            failure = .protocolViolation("The statement is not a COPY of the expected direction.")
        } catch {
            failure = error
        }
        if isOpen { _ = try? lastResult(deadline: deadline) }
        throw failure
    }

    /// Appends one CopyData message.
    func takeCopyData(deadline: Deadline?, into bytes: inout [UInt8]) throws(PostgresError) -> CopyStep {
        // libpq tells the end once; asked again it would complain.
        if copyHasEnded { return .end }
        var row: UnsafeMutablePointer<CChar>?
        let length = PQgetCopyData(try connection(), &row, 1)
        guard let row else {
            if length == 0 { return .wouldBlock }
            guard length == -1 else { throw lost() }
            copyHasEnded = true
            return .end
        }
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: row, count: Int(length)))
        PQfreemem(row)
        return .data
    }

    /// Reads what the socket has without waiting; whether there was anything.
    func hasMore() throws(PostgresError) -> Bool {
        let handle = try connection()
        guard wake.wait(socket: PQsocket(handle), reading: true, writing: false, deadline: Deadline(milliseconds: 0), heedsWake: false) == .ready
        else { return false }
        guard PQconsumeInput(handle) == 1 else { throw lost() }
        return true
    }

    func awaitCopyData(deadline: Deadline?) throws(PostgresError) {
        try wait(reading: true, writing: false, deadline: deadline)
        guard PQconsumeInput(try connection()) == 1 else { throw lost() }
    }

    /// libpq buffers what the socket does not take; flushing after each chunk bounds that.
    func putCopyData(_ bytes: [UInt8], deadline: Deadline?) throws(PostgresError) {
        let handle = try connection()
        var offset = 0
        while offset < bytes.count {
            let length = min(bytes.count - offset, 1 << 20)
            let sent = bytes.withUnsafeBytes { buffer in
                PQputCopyData(
                    handle, buffer.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self), Int32(length))
            }
            guard sent >= 0 else { throw lost() }
            if sent == 1 { offset += length }
            try flush(deadline: deadline)
        }
    }
}
