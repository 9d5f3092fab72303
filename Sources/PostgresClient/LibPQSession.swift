import CLibPQ

/// One libpq connection and everything that waits for it.
///
/// It blocks, so it is used on its connection's thread alone, or on one that this thread waits for, blocked; that confinement is
/// what makes it safe to hand to a thread.
final class LibPQSession: @unchecked Sendable {
    /// What the connection is in the middle of, between two calls.
    enum Mode {
        case idle, copyOut, copyIn, stream
        /// A COPY out has been read to its end, and its reader has not been told yet.
        case copyOutEnded
    }

    /// How long a cancelled statement may take to end before the connection is given up.
    static let graceMilliseconds = 2_000
    /// How often it is asked to end meanwhile.
    static let cancelAttempts = 8

    private var handle: OpaquePointer?
    let options: ConnectionOptions
    let wake: WakeEvent
    var mode = Mode.idle
    /// Reused for the text parameters of every statement.
    var scratch: [UInt8] = []
    /// The same for parameters that are made when they are sent: memory that is given back is faulted in anew.
    var packed = PackedParameters()
    /// The server's last words, when it ends an idle session.
    private var farewell: ServerError?
    /// What the server said it leaves out of the stream.
    private(set) var omission: ServerError?
    private var closedReason = "it was closed before"
    /// Whether the server has refused something of the running command.
    var hasRefusal = false
    /// Whether a pipeline has steps on their way that no Sync has ended yet.
    var hasOpenPipeline = false
    /// The runs of a pipeline that are not answered yet, in order; and what those came to that are, and nobody has taken.
    var runs: [PipelineRun] = []
    var answered: [Result<[PostgresResult], PipelineError>] = []
    /// How long the messages of a stream gather.
    var gatherPause = GatherPause()
    private var deadline = Deadline.never
    private var heedsCancellation = true
    /// What the calling thread has to see to while the running call waits.
    private var duty: Duty?

    private struct Duty {
        var everyMilliseconds: Int
        var see: () -> Void
    }

    init(_ options: ConnectionOptions, wake: WakeEvent) {
        self.options = options
        self.wake = wake
    }

    deinit { close() }

    // MARK: state

    var isOpen: Bool { handle.map { PQstatus($0) == CONNECTION_OK } ?? false }
    var serverVersion: Int { handle.map { Int(PQserverVersion($0)) } ?? 0 }

    /// libpq's handle; never leaves the module, never outlives the call.
    func opened() throws(PostgresError) -> OpaquePointer {
        guard let handle else { throw .closed(closedReason) }
        return handle
    }

    /// The handle of a connection on which a new statement may start.
    func idle() throws(PostgresError) -> OpaquePointer {
        let handle = try opened()
        if mode == .copyOutEnded { mode = .idle }
        guard mode == .idle else { throw .protocolViolation("a COPY or a stream is still open on this connection") }
        guard runs.isEmpty, answered.isEmpty else { throw .protocolViolation("a pipeline's answers are still to be taken") }
        hasRefusal = false
        return handle
    }

    /// Takes over a new connection.
    func adopt(_ handle: OpaquePointer) {
        close()
        self.handle = handle
    }

    /// Frees the connection; later calls throw `.closed` with this reason.
    func close(_ reason: String = "it was closed before") {
        guard let handle else { return }
        self.handle = nil
        mode = .idle
        forgetRuns()
        hasRefusal = false
        omission = nil
        closedReason = reason
        PQfinish(handle)
    }

    /// Nobody waits for them any more.
    func forgetRuns() {
        hasOpenPipeline = false
        runs = []
        answered = []
    }

    /// Whether the server is still there, as far as the socket knows without waiting.
    func probe() -> Bool {
        guard let handle else { return false }
        if mode == .idle, PQconsumeInput(handle) == 0 { close("the server ended it") }
        return isOpen
    }

    /// Sends what the server says on the side to the options' handler, and nothing to stderr.
    func routeNotices() {
        guard let handle else { return }
        PQsetNoticeReceiver(
            handle,
            { context, result in
                guard let context, let result else { return }
                let session = Unmanaged<LibPQSession>.fromOpaque(context).takeUnretainedValue()
                session.note(ServerError(result: result))
            },
            // The session frees the connection before it goes away itself.
            Unmanaged.passUnretained(self).toOpaque())
    }

    private func note(_ notice: ServerError) {
        if notice.isFatal { farewell = notice }
        // From 18 on a publication that is missing is no error any more: the server warns, and skips its changes.
        if mode == .stream, notice.isOmission { omission = notice }
        options.noticeHandler?(notice)
    }

    /// The connection broke: closes it and says why.
    func lost() -> PostgresError {
        guard let handle else { return .closed(closedReason) }
        // After an error of the server's libpq's text repeats it, with the values in its detail.
        let text = hasRefusal ? "" : String(cString: PQerrorMessage(handle))
        close("the connection to the server was lost")
        if let farewell { return .server(farewell) }
        let message = ConninfoText.redacted(text, conninfo: options.conninfo)
        return .connection(
            ConnectionFailure(
                reason: .lost, message: message.isEmpty ? "the connection to the server was lost" : message,
                target: options.description))
    }

    /// libpq would not send: the connection broke, or the call makes no sense to it.
    func notSent() -> PostgresError {
        guard let handle, PQstatus(handle) == CONNECTION_OK else { return lost() }
        let text = ConninfoText.redacted(String(cString: PQerrorMessage(handle)), conninfo: options.conninfo)
        return .protocolViolation(text)
    }

    // MARK: limits of a call

    /// Runs `body`; a deadline or a cancellation inside stops the statement on the server before it is thrown on.
    func withinLimits<Value>(
        timeoutMilliseconds: Int?, isCancellable: Bool, _ body: () throws(PostgresError) -> Value
    ) throws(PostgresError) -> Value {
        deadline = Deadline(milliseconds: timeoutMilliseconds)
        heedsCancellation = isCancellable
        do throws(PostgresError) {
            return try body()
        } catch {
            switch error {
            case .timeout:
                recover()
                throw .timeout(milliseconds: timeoutMilliseconds ?? 0)
            case .cancelled:
                recover()
                throw .cancelled
            case .connection, .server, .closed, .parameter, .protocolViolation:
                throw error
            }
        }
    }

    /// From now on the call may take this long, whatever the task wants.
    func allow(milliseconds: Int) {
        deadline = Deadline(milliseconds: milliseconds)
        heedsCancellation = false
        duty = nil
    }

    /// Waits for the socket within the limits of the running call.
    ///
    /// - Returns: whether there is something to read.
    @discardableResult
    func wait(reading: Bool, writing: Bool) throws(PostgresError) -> Bool {
        while let duty {
            do {
                return try wait(
                    reading: reading, writing: writing, until: Deadline(milliseconds: duty.everyMilliseconds))
            } catch .timeout {
                duty.see()
            }
        }
        return try wait(reading: reading, writing: writing, until: deadline)
    }

    /// Runs `body`, however long it takes; its waits are interrupted now and then for `see`.
    func seeing<Value>(
        everyMilliseconds: Int, _ see: () -> Void, _ body: () throws(PostgresError) -> Value
    ) throws(PostgresError) -> Value {
        try withoutActuallyEscaping(see) { see throws(PostgresError) in
            duty = Duty(everyMilliseconds: everyMilliseconds, see: see)
            defer { duty = nil }
            return try body()
        }
    }

    func wait(reading: Bool, writing: Bool, until deadline: Deadline) throws(PostgresError) -> Bool {
        try ready(reading: reading, writing: writing, beside: nil, until: deadline).here
    }

    /// Waits until there is something to read here, or at another session's socket.
    func wait(beside: CInt?, until deadline: Deadline) throws(PostgresError) -> (here: Bool, beside: Bool) {
        try ready(reading: true, writing: false, beside: beside, until: deadline)
    }

    private func ready(
        reading: Bool, writing: Bool, beside: CInt?, until deadline: Deadline
    ) throws(PostgresError) -> (here: Bool, beside: Bool) {
        let outcome = SocketWait.wait(
            socket: PQsocket(try opened()), reading: reading, writing: writing, beside: beside ?? -1,
            wake: heedsCancellation ? wake : nil, deadline: deadline)
        switch outcome {
        case .ready(let readable, _, let isBesideReadable): return (readable, isBesideReadable)
        case .timedOut: throw .timeout(milliseconds: 0)
        case .interrupted: throw .cancelled
        case .failed: throw lost()
        }
    }

    /// Waits for `wake` alone, until the deadline of the running call.
    func waitForWake() throws(PostgresError) {
        if case .timedOut = SocketWait.wait(
            socket: -1, reading: false, writing: false, wake: wake, deadline: deadline)
        {
            throw .timeout(milliseconds: 0)
        }
    }

    /// Reads what the socket has, without waiting.
    func consume() throws(PostgresError) {
        guard PQconsumeInput(try opened()) == 1 else { throw lost() }
    }

    /// Sends what libpq holds, reading meanwhile so that neither side can block the other.
    func flush() throws(PostgresError) {
        while true {
            let left = PQflush(try opened())
            if left == 0 { return }
            guard left > 0 else { throw lost() }
            if try wait(reading: true, writing: true) { try consume() }
        }
    }
}
