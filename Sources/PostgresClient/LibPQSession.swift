import CLibPQ
import Foundation
import Glibc

/// One libpq connection and everything that waits for it. Blocks; used only on its connection's thread.
final class LibPQSession: @unchecked Sendable {  // Confined to one thread; `deinit` runs when nobody uses it.
    /// How long a cancelled statement may take to end before the connection is given up.
    static let graceMilliseconds = 2_000

    private var handle: OpaquePointer?
    let wake: WakeEvent
    private let conninfo: String
    /// Whether the end of the present COPY has been read.
    var copyHasEnded = false

    init(_ options: ConnectionOptions, wake: WakeEvent) throws(PostgresError) {
        self.wake = wake
        conninfo = options.conninfo
        handle = try Self.connect(options, wake)
        do {
            try configure(options)
        } catch {
            finish()
            throw error
        }
    }

    deinit { finish() }

    var isOpen: Bool { handle.map { PQstatus($0) == CONNECTION_OK } ?? false }
    var serverVersion: Int { handle.map { Int(PQserverVersion($0)) } ?? 0 }

    func finish() {
        guard let handle else { return }
        self.handle = nil
        PQfinish(handle)
    }

    /// libpq's handle.
    func connection() throws(PostgresError) -> OpaquePointer {
        guard let handle else { throw .closed("It was closed before.") }
        return handle
    }

    // MARK: connecting

    private static func connect(_ options: ConnectionOptions, _ wake: WakeEvent) throws(PostgresError) -> OpaquePointer {
        var keywords = [
            "dbname": options.conninfo, "fallback_application_name": options.applicationName,
            "client_encoding": "UTF8", "keepalives_idle": "20", "keepalives_interval": "5", "keepalives_count": "3",
            "tcp_user_timeout": "30000",
        ]
        // What the conninfo says itself stands: libpq lets the later of two settings win.
        for part in ConninfoText.parse(options.conninfo) where part.key != "dbname" { keywords[part.key] = nil }
        if options.isReplication { keywords["replication"] = "database" }
        // The conninfo comes first, so that `replication` after it holds.
        let pairs = keywords.sorted { ($0.key == "dbname" ? 0 : 1, $0.key) < ($1.key == "dbname" ? 0 : 1, $1.key) }
        guard let handle = start(keywords: pairs.map(\.key), values: pairs.map(\.value)) else { throw .connection("Out of memory.", nil) }
        do {
            try finishConnecting(handle, options, wake)
            return handle
        } catch {
            PQfinish(handle)
            throw error
        }
    }

    private static func start(keywords: [String], values: [String]) -> OpaquePointer? {
        let copies = (keywords + values).map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        var keys: [UnsafePointer<CChar>?] = copies[..<keywords.count].map { UnsafePointer($0) }
        var texts: [UnsafePointer<CChar>?] = copies[keywords.count...].map { UnsafePointer($0) }
        keys.append(nil)
        texts.append(nil)
        return PQconnectStartParams(keys, texts, 1)
    }

    private static func finishConnecting(
        _ handle: OpaquePointer, _ options: ConnectionOptions, _ wake: WakeEvent
    ) throws(PostgresError) {
        let deadline = Deadline(milliseconds: options.connectTimeoutSeconds * 1_000)
        var status = PQstatus(handle) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING
        while status != PGRES_POLLING_OK {
            guard status != PGRES_POLLING_FAILED else { throw failure(handle, options) }
            switch wake.wait(
                socket: PQsocket(handle), reading: status == PGRES_POLLING_READING,
                writing: status == PGRES_POLLING_WRITING, deadline: deadline)
            {
            case .ready: status = PQconnectPoll(handle)
            case .woken: throw .cancelled
            case .timedOut:
                throw .connection(
                    "No answer from \(options) within \(options.connectTimeoutSeconds) s.", SQLState("08001"))
            }
        }
    }

    private static func failure(_ handle: OpaquePointer, _ options: ConnectionOptions) -> PostgresError {
        let text = ConninfoText.redact(String(cString: PQerrorMessage(handle)), conninfo: options.conninfo)
        return .connection(text, state(inConnectionMessage: text))
    }

    /// libpq keeps no SQLSTATE for a refused connection; its text is all there is.
    private static func state(inConnectionMessage text: String) -> SQLState? {
        let known = [
            ("password authentication failed", "28P01"), ("no pg_hba.conf entry", "28000"),
            ("no password supplied", "28P01"), ("does not exist", "3D000"), ("too many clients", "53300"),
            ("remaining connection slots", "53300"), ("starting up", "57P03"), ("shutting down", "57P03"),
            ("in recovery mode", "57P03"), ("not permitted to log in", "28000"),
            ("must be superuser or replication role", "42501"), ("certificate verify failed", "08001"),
            ("SSL", "08P01"),
        ]
        // Without any of these the server could not be reached, which may pass.
        return known.first { text.contains($0.0) }.map { SQLState($0.1 == "08P01" ? "28000" : $0.1) }
            ?? SQLState("08001")
    }

    private func configure(_ options: ConnectionOptions) throws(PostgresError) {
        let handle = try connection()
        // Warnings of the server have no reader here; libpq would print them.
        PQsetNoticeProcessor(handle, { _, _ in }, nil)
        guard PQsetnonblocking(handle, 1) == 0 else { throw .closed("It cannot be made non-blocking.") }
        // Older servers lack some settings; the walsender takes SET as well as any session does.
        let known = options.allSettings.map { "(\(Self.literal($0.name)), \(Self.literal($0.value)))" }
        guard !known.isEmpty else { return }
        if options.isReplication {
            for setting in options.allSettings {
                _ = try simple("SET \(setting.name) = \(Self.literal(setting.value))", deadline: nil)
            }
        } else {
            _ = try simple(
                "SELECT pg_catalog.set_config(n, v, false) FROM (VALUES \(known.joined(separator: ", "))) AS s(n, v)",
                deadline: nil)
        }
    }

    private static func literal(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }

    // MARK: waiting

    /// Sends what libpq holds, reading meanwhile so that neither side can block the other.
    func flush(deadline: Deadline?) throws(PostgresError) {
        let handle = try connection()
        while true {
            let left = PQflush(handle)
            if left == 0 { return }
            guard left > 0 else { throw lost() }
            try wait(reading: true, writing: true, deadline: deadline)
            guard PQconsumeInput(handle) == 1 else { throw lost() }
        }
    }

    /// Waits until a result can be taken without blocking.
    func awaitInput(deadline: Deadline?) throws(PostgresError) {
        let handle = try connection()
        while PQisBusy(handle) == 1 {
            try wait(reading: true, writing: false, deadline: deadline)
            guard PQconsumeInput(handle) == 1 else { throw lost() }
        }
    }

    func wait(reading: Bool, writing: Bool, deadline: Deadline?) throws(PostgresError) {
        let handle = try connection()
        switch wake.wait(socket: PQsocket(handle), reading: reading, writing: writing, deadline: deadline) {
        case .ready: return
        case .woken: throw .cancelled
        case .timedOut: throw .timeout(milliseconds: 0)
        }
    }

    /// The connection broke; says why.
    func lost() -> PostgresError {
        guard let handle else { return .closed("It was closed before.") }
        let text = ConninfoText.redact(String(cString: PQerrorMessage(handle)), conninfo: conninfo)
        return .closed(text.isEmpty ? "The server closed it." : text)
    }

    /// Runs `body`; a timeout or cancellation inside stops the statement on the server before it is thrown on.
    func interruptible<Result>(
        timeoutMilliseconds: Int?, _ body: (Deadline?) throws(PostgresError) -> Result
    ) throws(PostgresError) -> Result {
        do {
            return try body(timeoutMilliseconds.map { Deadline(milliseconds: $0) })
        } catch .timeout {
            abandon()
            throw .timeout(milliseconds: timeoutMilliseconds ?? 0)
        } catch .cancelled {
            abandon()
            throw .cancelled
        } catch {
            throw error
        }
    }

    /// Asks the server to stop and throws away what it still sends; a server that does not answer loses us.
    private func abandon() {
        guard let handle else { return }
        requestCancel(handle)
        let deadline = Deadline(milliseconds: Self.graceMilliseconds)
        do {
            while PQtransactionStatus(handle) == PQTRANS_ACTIVE || PQpipelineStatus(handle) != PQ_PIPELINE_OFF {
                try awaitQuietly(deadline)
                let result = PQgetResult(handle)
                if let result {
                    let status = PQresultStatus(result)
                    PQclear(result)
                    if status == PGRES_COPY_IN || status == PGRES_COPY_BOTH {
                        _ = PQputCopyEnd(handle, "cancelled")
                    } else if status == PGRES_COPY_OUT {
                        try discardCopy(handle, deadline)
                    }
                } else if PQpipelineStatus(handle) != PQ_PIPELINE_OFF, PQexitPipelineMode(handle) == 1 {
                    return
                }
            }
        } catch {
            finish()
        }
    }

    private func awaitQuietly(_ deadline: Deadline) throws(PostgresError) {
        guard let handle else { return }
        while true {
            _ = PQflush(handle)
            if PQisBusy(handle) == 0 { return }
            guard
                wake.wait(
                    socket: PQsocket(handle), reading: true, writing: false, deadline: deadline, heedsWake: false)
                    == .ready, PQconsumeInput(handle) == 1
            else { throw .closed("The server did not end a cancelled statement.") }
        }
    }

    private func discardCopy(_ handle: OpaquePointer, _ deadline: Deadline) throws(PostgresError) {
        while true {
            var row: UnsafeMutablePointer<CChar>?
            let length = PQgetCopyData(handle, &row, 1)
            if let row { PQfreemem(row) }
            if length < 0 { return }
            if length > 0 { continue }
            guard
                wake.wait(
                    socket: PQsocket(handle), reading: true, writing: false, deadline: deadline, heedsWake: false)
                    == .ready, PQconsumeInput(handle) == 1
            else { throw .closed("The server did not end a cancelled copy.") }
        }
    }

    /// The request goes over a connection of its own, which may hang as well as ours: it has its own thread.
    private func requestCancel(_ handle: OpaquePointer) {
        guard let cancel = PQgetCancel(handle) else { return }
        let address = UInt(bitPattern: cancel)
        Thread.detachNewThread {
            guard let cancel = OpaquePointer(bitPattern: address) else { return }
            var text = [CChar](repeating: 0, count: 256)
            _ = PQcancel(cancel, &text, Int32(text.count))
            PQfreeCancel(cancel)
        }
    }
}
