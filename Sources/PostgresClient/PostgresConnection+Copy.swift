extension PostgresConnection {
    /// Begins `COPY … TO STDOUT`; then `readCopy` until nil.
    public func beginCopyOut(_ sql: String) async throws(PostgresError) {
        try await session.call(isolation: self) { () throws(PostgresError) in try session.beginCopy(sql, .copyOut) }
    }

    /// The next rows of a copy: whole CopyData messages, at least `minimumBytes` unless the end comes first.
    ///
    /// - Returns: nil at the end, after the server has confirmed it.
    public func readCopy(minimumBytes: Int = 256 << 10) async throws(PostgresError) -> [UInt8]? {
        try await session.call(isolation: self) { () throws(PostgresError) in
            try session.readCopy(minimumBytes: minimumBytes)
        }
    }

    /// Begins `COPY … FROM STDIN`; then `writeCopy`, then `endCopyIn`.
    public func beginCopyIn(_ sql: String) async throws(PostgresError) {
        try await session.call(isolation: self) { () throws(PostgresError) in try session.beginCopy(sql, .copyIn) }
    }

    /// Sends rows, in pieces of any size, waiting while the server is slower.
    ///
    /// The server reports bad rows at `endCopyIn`.
    public func writeCopy(_ bytes: [UInt8]) async throws(PostgresError) {
        try await session.call(isolation: self) { () throws(PostgresError) in try session.writeCopy(bytes) }
    }

    /// Ends a copy in.
    ///
    /// - Parameter reason: makes the server throw the copy away; the call then returns 0, and works in a cancelled
    ///   task too.
    /// - Returns: the rows copied.
    @discardableResult
    public func endCopyIn(failing reason: String? = nil) async throws(PostgresError) -> Int {
        try await session.call(
            isolation: self, timeoutMilliseconds: reason == nil ? nil : LibPQSession.stopMilliseconds,
            isCancellable: reason == nil
        ) { () throws(PostgresError) in try session.endCopyIn(failing: reason) }
    }

    /// Runs a whole COPY in.
    ///
    /// - Parameter write: appends the next rows to the buffer, about as many bytes as it is told, and says whether
    ///   there are more. Called on the connection's thread, while the server reads what it wrote before.
    /// - Returns: the rows copied.
    public func copyIn(
        _ sql: String, write: (inout [UInt8], Int) -> Bool
    ) async throws(PostgresError) -> Int {
        try await session.call(isolation: self) { () throws(PostgresError) in try session.copyIn(sql, write) }
    }
}
