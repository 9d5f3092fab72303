import CLibPQ

extension PostgresConnection {
    /// Begins `COPY … TO STDOUT`; then `readCopy` until `nil`.
    public func beginCopyOut(_ sql: String) async throws(PostgresError) {
        try await begin(sql, expecting: PGRES_COPY_OUT)
    }

    /// The next rows of a copy: whole CopyData messages, at least `minimumBytes` unless the end comes first.
    ///
    /// - Returns: `nil` at the end, after the server has confirmed it.
    public func readCopy(minimumBytes: Int = 256 << 10) async throws(PostgresError) -> [UInt8]? {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            return try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                var bytes: [UInt8] = []
                bytes.reserveCapacity(minimumBytes + 8_192)
                while bytes.count < minimumBytes {
                    switch try session.takeCopyData(deadline: deadline, into: &bytes) {
                    case .data: continue
                    case .wouldBlock: try session.awaitCopyData(deadline: deadline)
                    case .end:
                        // What was read is delivered first; the next call finds the end again.
                        if !bytes.isEmpty { return bytes }
                        _ = try session.lastResult(deadline: deadline)
                        return nil
                    }
                }
                return bytes
            }
        }
    }

    /// Begins `COPY … FROM STDIN`; then `writeCopy`, then `endCopyIn`.
    public func beginCopyIn(_ sql: String) async throws(PostgresError) {
        try await begin(sql, expecting: PGRES_COPY_IN)
    }

    /// Sends rows, waiting while the server is slower.
    public func writeCopy(_ bytes: [UInt8]) async throws(PostgresError) {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                try session.putCopyData(bytes, deadline: deadline)
            }
        }
    }

    /// Ends a copy in.
    ///
    /// - Parameter reason: makes the server throw the copy away; the call then returns 0.
    /// - Returns: the rows copied.
    public func endCopyIn(failing reason: String? = nil) async throws(PostgresError) -> Int {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            return try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                while PQputCopyEnd(try session.connection(), reason) == 0 {
                    try session.wait(reading: false, writing: true, deadline: deadline)
                }
                try session.flush(deadline: deadline)
                do throws(PostgresError) {
                    return try session.lastResult(deadline: deadline).affectedRows
                } catch {
                    guard reason != nil, case .server(let refusal) = error, refusal.sqlState.rawValue == "57014"
                    else { throw error }
                    return 0
                }
            }
        }
    }

    private func begin(_ sql: String, expecting status: ExecStatusType) async throws(PostgresError) {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                try session.beginCopy(sql, expecting: status, deadline: deadline)
            }
        }
    }
}
