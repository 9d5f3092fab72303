import CLibPQ
import Foundation

/// What `IDENTIFY_SYSTEM` answers.
public struct SystemIdentity: Sendable, Equatable {
    public var systemIdentifier: String
    public var timeline: Int
    /// The server's current flush position.
    public var flushLSN: UInt64
    public var database: String?
}

/// What `CREATE_REPLICATION_SLOT` answers.
public struct CreatedSlot: Sendable, Equatable {
    public var name: String
    /// Where the slot begins; the exported snapshot shows exactly what was committed before.
    public var consistentPoint: UInt64
    /// Usable by other sessions until this connection runs its next command or ends.
    public var snapshotName: String?
}

/// Messages that came together: each range of `bytes` is the payload of one CopyData message.
public struct ReplicationBatch: Sendable {
    public var bytes: [UInt8] = []
    public var messages: [Range<Int>] = []
    /// The server has ended the stream.
    public var isEnd = false
}

/// A walsender session: slots and one stream. Like `PostgresConnection`, it has a thread of its own.
public actor ReplicationConnection {
    private nonisolated let thread: ConnectionThread
    private nonisolated let wake: WakeEvent
    private var session: LibPQSession?

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private init() throws(PostgresError) {
        wake = try WakeEvent()
        thread = ConnectionThread(name: "walsender")
    }

    deinit { thread.stop() }

    /// Connects with `replication=database`.
    public static func connect(_ options: ConnectionOptions) async throws(PostgresError) -> ReplicationConnection {
        let connection = try ReplicationConnection()
        try await connection.open(options)
        return connection
    }

    private func open(_ options: ConnectionOptions) async throws(PostgresError) {
        var options = options
        options.isReplication = true
        let wanted = options
        session = try await interruptible { () throws(PostgresError) in try LibPQSession(wanted, wake: wake) }
    }

    public func close() {
        session?.finish()
        session = nil
    }

    public func identifySystem() async throws(PostgresError) -> SystemIdentity {
        let result = try await command("IDENTIFY_SYSTEM")
        guard let row = result.rows.first, let lsn = row[2].flatMap(Self.position) else {
            throw .protocolViolation("IDENTIFY_SYSTEM answered nothing.")
        }
        return SystemIdentity(
            systemIdentifier: row[0] ?? "", timeline: row[1].flatMap { Int($0) } ?? 0, flushLSN: lsn, database: row[3])
    }

    /// Creates a logical slot for `pgoutput`.
    public func createSlot(
        _ name: String, temporary: Bool = false, exportsSnapshot: Bool = true, twoPhase: Bool = false
    ) async throws(PostgresError) -> CreatedSlot {
        // The older form of options, which every version since 10 takes.
        let result = try await command(
            "CREATE_REPLICATION_SLOT \(Self.quoted(name))\(temporary ? " TEMPORARY" : "") LOGICAL pgoutput "
                + (exportsSnapshot ? "EXPORT_SNAPSHOT" : "NOEXPORT_SNAPSHOT") + (twoPhase ? " TWO_PHASE" : ""))
        guard let row = result.rows.first, let point = row[1].flatMap(Self.position) else {
            throw .protocolViolation("CREATE_REPLICATION_SLOT answered nothing.")
        }
        return CreatedSlot(name: row[0] ?? name, consistentPoint: point, snapshotName: row[2])
    }

    /// Drops a slot; with `wait`, once no other session holds it.
    public func dropSlot(_ name: String, wait: Bool = false) async throws(PostgresError) {
        _ = try await command("DROP_REPLICATION_SLOT \(Self.quoted(name))\(wait ? " WAIT" : "")")
    }

    /// Starts the stream; the server sends transactions that committed at or after `lsn`.
    public func startReplication(
        slot: String, at lsn: UInt64, options: [(String, String)]
    ) async throws(PostgresError) {
        let list = options.map { "\(Self.quoted($0.0)) \(Self.literal($0.1))" }.joined(separator: ", ")
        let position = String(lsn >> 32, radix: 16) + "/" + String(UInt32(truncatingIfNeeded: lsn), radix: 16)
        let sql = "START_REPLICATION SLOT \(Self.quoted(slot)) LOGICAL \(position) (\(list))"
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                try session.beginCopy(sql, expecting: PGRES_COPY_BOTH, deadline: deadline)
            }
        }
    }

    /// Waits for messages, then takes what is there up to about `maximumBytes`.
    ///
    /// - Parameter gatherMicroseconds: lets messages gather in the socket first. The server sends one by one, and
    ///   waking for each costs more than the message; a caller that has work left loses nothing by waiting.
    /// - Returns: an empty batch when nothing came within `waitMilliseconds`.
    public func receive(
        maximumBytes: Int, waitMilliseconds: Int, gatherMicroseconds: Int = 0
    ) async throws(PostgresError) -> ReplicationBatch {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            if gatherMicroseconds > 0 {
                var pause = timespec(tv_sec: 0, tv_nsec: min(gatherMicroseconds, 10_000) * 1_000)
                nanosleep(&pause, nil)
            }
            let deadline = Deadline(milliseconds: waitMilliseconds)
            var batch = ReplicationBatch()
            batch.bytes.reserveCapacity(64 << 10)
            while batch.bytes.count < maximumBytes {
                let start = batch.bytes.count
                switch try session.takeCopyData(deadline: nil, into: &batch.bytes) {
                case .data:
                    batch.messages.append(start..<batch.bytes.count)
                case .end:
                    batch.isEnd = true
                    _ = try session.lastResult(deadline: Deadline(milliseconds: 5_000))
                    return batch
                case .wouldBlock:
                    if try session.hasMore() { continue }
                    if !batch.messages.isEmpty { return batch }
                    do throws(PostgresError) {
                        try session.awaitCopyData(deadline: deadline)
                    } catch {
                        if case .timeout = error { return batch }
                        throw error
                    }
                }
            }
            return batch
        }
    }

    /// Tells the server how far we are.
    ///
    /// - Parameter flushed: the server may forget everything before it.
    public func sendStatus(
        received: UInt64, flushed: UInt64, applied: UInt64, replyRequested: Bool = false
    ) async throws(PostgresError) {
        var message: [UInt8] = [UInt8(ascii: "r")]
        let microseconds = Int64((Date().timeIntervalSince1970 - 946_684_800) * 1_000_000)
        for value in [received, flushed, applied, UInt64(bitPattern: microseconds)] {
            withUnsafeBytes(of: value.bigEndian) { message.append(contentsOf: $0) }
        }
        message.append(replyRequested ? 1 : 0)
        let bytes = message
        try await interruptible { () throws(PostgresError) in
            try opened().putCopyData(bytes, deadline: Deadline(milliseconds: 10_000))
        }
    }

    /// Ends the stream in order, throwing away what the server still sends.
    public func stop() async throws(PostgresError) {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            let deadline = Deadline(milliseconds: 5_000)
            guard PQputCopyEnd(try session.connection(), nil) >= 0 else { throw session.lost() }
            try session.flush(deadline: deadline)
            var rest: [UInt8] = []
            while true {
                rest.removeAll(keepingCapacity: true)
                switch try session.takeCopyData(deadline: deadline, into: &rest) {
                case .data: continue
                case .wouldBlock: try session.awaitCopyData(deadline: deadline)
                case .end:
                    _ = try session.lastResult(deadline: deadline)
                    return
                }
            }
        }
    }

    private func command(_ sql: String) async throws(PostgresError) -> PostgresResult {
        try await interruptible { () throws(PostgresError) in
            let session = try opened()
            return try session.interruptible(timeoutMilliseconds: nil) { deadline throws(PostgresError) in
                try session.simple(sql, deadline: deadline)
            }
        }
    }

    private func opened() throws(PostgresError) -> LibPQSession {
        guard let session else { throw .closed("It was closed before.") }
        guard session.isOpen else { throw session.lost() }
        return session
    }

    private func interruptible<Value>(_ body: () throws(PostgresError) -> Value) async throws(PostgresError) -> Value {
        try await Interruption.run(wake, isolation: self, body)
    }

    private static func quoted(_ name: String) -> String {
        "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    private static func literal(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }

    private static func position(_ text: String) -> UInt64? {
        let halves = text.split(separator: "/")
        guard halves.count == 2, let high = UInt64(halves[0], radix: 16), let low = UInt64(halves[1], radix: 16)
        else { return nil }
        return high << 32 | low
    }
}
