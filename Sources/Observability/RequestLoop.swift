import Glibc

/// Waits for all sockets at once, and moves bytes between them and their exchanges. Lives on one thread.
struct RequestLoop {
    private struct Connection {
        let socket: SocketDescriptor
        var exchange: RequestExchange
        var work: Task<Void, Never>?
    }

    /// How long until it is asked again, where the kernel has no file, or no memory, for another connection.
    private static let pause = Duration.milliseconds(100)

    let listener: SocketDescriptor
    let mailbox: RequestServer.Mailbox
    let limits: RequestExchange.Limits
    let answer: @Sendable (RequestHead) async -> StatusAnswer

    /// By a number that counts them: the lowest is the oldest. A descriptor's number is used again, this one never.
    private var connections: [Int: Connection] = [:]
    private var accepted = 0
    private var acceptsFrom = ContinuousClock.now
    private var buffer = [UInt8](repeating: 0, count: 4_096)

    init(
        listener: SocketDescriptor, mailbox: RequestServer.Mailbox, limits: RequestExchange.Limits, answer: @escaping @Sendable (RequestHead) async -> StatusAnswer
    ) {
        self.listener = listener
        self.mailbox = mailbox
        self.limits = limits
        self.answer = answer
    }

    /// Runs until the mailbox says to stop.
    mutating func run() throws(SocketDescriptor.Failure) {
        defer { for connection in connections.values { connection.work?.cancel() } }
        while true {
            let mail = mailbox.take()
            if mail.isStopped { return }
            for (number, bytes) in mail.answers { connections[number]?.exchange.answered(bytes, at: .now) }
            let ready = try wait()
            for (number, events) in ready.connections { serve(number, events) }
            for (number, connection) in connections where connection.exchange.deadline <= .now { close(number) }
            if ready.isCalled { try accept() }
        }
    }

    // MARK: waiting

    private struct Ready {
        var isCalled = false
        var connections: [(number: Int, events: Int32)] = []
    }

    private func wait() throws(SocketDescriptor.Failure) -> Ready {
        let now = ContinuousClock.now
        var until = connections.values.map(\.exchange.deadline).min()
        var polled = [pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0)]
        if acceptsFrom > now { until = min(until ?? acceptsFrom, acceptsFrom) }
        // A descriptor below zero is passed over.
        polled.append(pollfd(fd: acceptsFrom <= now && hasRoom ? listener.number : -1, events: Int16(POLLIN), revents: 0))
        let numbers = Array(connections.keys)
        for number in numbers {
            guard let connection = connections[number] else { continue }
            let events = connection.exchange.wantsBytes ? POLLIN : connection.exchange.outgoing == nil ? 0 : POLLOUT
            polled.append(pollfd(fd: connection.socket.number, events: Int16(events), revents: 0))
        }
        guard poll(&polled, nfds_t(polled.count), until.map { Self.milliseconds($0 - now) } ?? -1) >= 0 || errno == EINTR else { throw .last }
        let found = zip(numbers, polled.dropFirst(2)).filter { $0.1.revents != 0 }.map { ($0.0, Int32($0.1.revents)) }
        return Ready(isCalled: polled[1].revents != 0, connections: found)
    }

    /// Rounded up: who wakes too early would only ask again.
    private static func milliseconds(_ duration: Duration) -> CInt {
        CInt(clamping: max(0, duration.components.seconds * 1_000 + duration.components.attoseconds / 1_000_000_000_000_000 + 1))
    }

    // MARK: connections

    private var hasRoom: Bool { connections.count < limits.connections || connections.values.contains { $0.exchange.mayBeLetGo } }

    private mutating func accept() throws(SocketDescriptor.Failure) {
        let socket: SocketDescriptor
        do {
            guard let accepted = try listener.accept() else { return }
            socket = accepted
        } catch {
            guard [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(error.code) else { throw error }
            if !makeRoom() { acceptsFrom = .now + Self.pause }
            return
        }
        if connections.count >= limits.connections { makeRoom() }
        accepted += 1
        connections[accepted] = Connection(socket: socket, exchange: RequestExchange(limits, at: .now))
    }

    /// Closes the one that has said nothing for longest; who means it has sent its head long since.
    @discardableResult private mutating func makeRoom() -> Bool {
        guard let oldest = connections.filter({ $0.value.exchange.mayBeLetGo }).keys.min() else { return false }
        close(oldest)
        return true
    }

    private mutating func serve(_ number: Int, _ events: Int32) {
        guard var connection = connections[number] else { return }
        let now = ContinuousClock.now
        var action = RequestExchange.Action.none
        if let outgoing = connection.exchange.outgoing {
            action = connection.socket.send(outgoing).map { connection.exchange.sent($0, at: now) } ?? .close
        } else if connection.exchange.wantsBytes {
            switch connection.socket.receive(into: &buffer) {
            case .bytes(let bytes): action = connection.exchange.received(bytes, at: now)
            case .end: action = connection.exchange.ended()
            case .nothingYet: break
            }
        } else if events & (POLLERR | POLLHUP) != 0 {
            action = .close
        }
        switch action {
        case .none: break
        case .answer(let head): connection.work = work(on: head, for: number)
        case .endSending: connection.socket.endSending()
        case .close:
            close(number)
            return
        }
        connections[number] = connection
    }

    private func work(on head: RequestHead, for number: Int) -> Task<Void, Never> {
        Task { [answer, mailbox] in
            mailbox.answer(number, await answer(head).bytes(withBody: head.method != "HEAD"))
        }
    }

    private mutating func close(_ number: Int) {
        connections.removeValue(forKey: number)?.work?.cancel()
    }
}
