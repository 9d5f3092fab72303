/// One connection from its first byte to its last: a head comes, an answer goes. It knows neither socket nor clock; it is told of both.
///
/// What anybody may cost is bounded before it is known who asks: the bytes of a head, and the time that each stage may take.
struct RequestExchange {
    typealias Instant = ContinuousClock.Instant

    struct Limits {
        var head: Duration = .seconds(10)
        /// Until there is an answer.
        var answer: Duration
        var sending: Duration = .seconds(30)
        var connections = 256
    }

    private enum Stage {
        case reading([UInt8])
        case answering
        case sending(ArraySlice<UInt8>)
        /// All is said. A socket closed while bytes still come would take the answer away from who sends them.
        case leaving(bytes: Int)
    }

    enum Action {
        case none
        case answer(RequestHead)
        /// Sends nothing more, and reads on.
        case endSending
        case close
    }

    private static let leavingBytes = 1 << 20
    private static let leaving = Duration.seconds(1)

    private let limits: Limits
    private var stage = Stage.reading([])
    /// When it is closed, whatever it has come to.
    private(set) var deadline: Instant

    init(_ limits: Limits, at now: Instant) {
        self.limits = limits
        deadline = now + limits.head
    }

    var wantsBytes: Bool {
        switch stage {
        case .reading, .leaving: true
        case .answering, .sending: false
        }
    }

    /// What is still to be sent.
    var outgoing: ArraySlice<UInt8>? {
        guard case .sending(let bytes) = stage else { return nil }
        return bytes
    }

    /// Nothing is owed to it: whoever sends a whole request may have its place.
    var mayBeLetGo: Bool { wantsBytes }

    mutating func received(_ bytes: ArraySlice<UInt8>, at now: Instant) -> Action {
        switch stage {
        case .reading(var head):
            let seen = head.count
            head += bytes
            guard let end = RequestHead.end(of: head, from: seen) else {
                if head.count <= RequestHead.limitBytes { stage = .reading(head) } else { refuse(431, at: now) }
                return .none
            }
            guard end <= RequestHead.limitBytes else {
                refuse(431, at: now)
                return .none
            }
            do {
                let request = try RequestHead(head[..<end])
                stage = .answering
                deadline = now + limits.answer
                return .answer(request)
            } catch {
                refuse(400, at: now)
                return .none
            }
        case .leaving(let before):
            stage = .leaving(bytes: before + bytes.count)
            return before + bytes.count > Self.leavingBytes ? .close : .none
        case .answering, .sending: return .none
        }
    }

    /// Whoever ends its side with half a head wants nothing any more.
    mutating func ended() -> Action { wantsBytes ? .close : .none }

    mutating func answered(_ bytes: [UInt8], at now: Instant) {
        guard case .answering = stage else { return }
        send(bytes, at: now)
    }

    mutating func sent(_ count: Int, at now: Instant) -> Action {
        guard case .sending(let bytes) = stage else { return .none }
        let rest = bytes.dropFirst(count)
        guard rest.isEmpty else {
            stage = .sending(rest)
            return .none
        }
        stage = .leaving(bytes: 0)
        deadline = now + Self.leaving
        return .endSending
    }

    private mutating func refuse(_ status: Int, at now: Instant) {
        let reason = status == 431 ? "The head of a request may have \(RequestHead.limitBytes) bytes." : "This is no request of HTTP/1.1."
        send(StatusAnswer.refusal(status, reason).bytes(), at: now)
    }

    private mutating func send(_ bytes: [UInt8], at now: Instant) {
        stage = .sending(bytes[...])
        deadline = now + limits.sending
    }
}
