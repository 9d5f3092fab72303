import Testing

@testable import Observability

/// A connection as a script: what comes, what it does, when it is over. No socket and no clock.
@Suite struct RequestExchangeTests {
    private let start = ContinuousClock.now
    private let limits = RequestExchange.Limits(head: .seconds(10), answer: .seconds(65), sending: .seconds(30))

    @Test func aHeadComesInPiecesAndAnAnswerGoesInPieces() throws {
        var exchange = RequestExchange(limits, at: start)
        #expect(exchange.deadline == start + .seconds(10))
        for byte in "GET /health HTTP/1.1\r\n\r".utf8 { #expect(exchange.received([byte], at: start + .seconds(9)).isNone) }
        #expect(exchange.deadline == start + .seconds(10), "it does not move with the bytes that come")
        #expect(exchange.received([10], at: start + .seconds(9)).path == "/health")
        #expect(!exchange.wantsBytes && exchange.outgoing == nil && exchange.deadline == start + .seconds(74))

        exchange.answered([1, 2, 3], at: start + .seconds(20))
        #expect(exchange.outgoing == [1, 2, 3] && exchange.deadline == start + .seconds(50))
        #expect(exchange.sent(2, at: start + .seconds(21)).isNone)
        #expect(exchange.outgoing == [3])
        #expect(exchange.sent(0, at: start + .seconds(22)).isNone)
        #expect(exchange.deadline == start + .seconds(50))
        #expect(exchange.sent(1, at: start + .seconds(23)).isEndSending)
        #expect(exchange.wantsBytes && exchange.deadline == start + .seconds(24))
        #expect(exchange.ended().isClose)
    }

    @Test func onlyOneHeadIsAnsweredAndTheAnswerOnlyOnce() {
        var exchange = RequestExchange(limits, at: start)
        exchange.answered([9], at: start)
        #expect(exchange.outgoing == nil, "nothing was asked")
        #expect(exchange.received(Array("GET / HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n".utf8)[...], at: start).path == "/")
        exchange.answered([1], at: start)
        exchange.answered([2], at: start)
        #expect(exchange.outgoing == [1])
    }

    @Test func whoGoesOnTalkingIsHeardOnlySoFar() {
        var exchange = RequestExchange(limits, at: start)
        _ = exchange.received(Array("GET / HTTP/1.1\r\n\r\n".utf8)[...], at: start)
        exchange.answered([1], at: start)
        #expect(exchange.sent(1, at: start).isEndSending)
        let piece = [UInt8](repeating: 0, count: 1 << 19)[...]
        #expect(exchange.received(piece, at: start).isNone)
        #expect(exchange.received(piece, at: start).isNone)
        #expect(exchange.received([0], at: start).isClose)
    }

    @Test func aHeadAtTheLimitIsTakenAndOneBeyondItIsNot() {
        for (excess, status) in [(0, nil), (1, "431")] {
            var exchange = RequestExchange(limits, at: start)
            let frame = "GET / HTTP/1.1\r\n\r\n"
            let path = String(repeating: "a", count: RequestHead.limitBytes - frame.utf8.count + excess)
            let action = exchange.received(Array("GET /\(path) HTTP/1.1\r\n\r\n".utf8)[...], at: start)
            #expect((action.path == nil) == (status != nil))
            #expect(exchange.outgoing.map { String(decoding: $0.prefix(12).suffix(3), as: UTF8.self) } == status)
        }
    }

    /// Half a head is nothing; a client that has asked may end its side and still be answered.
    @Test func anEndIsTheEndOnlyWhereNothingIsOwed() {
        var half = RequestExchange(limits, at: start)
        _ = half.received(Array("GET /".utf8)[...], at: start)
        #expect(half.mayBeLetGo && half.ended().isClose)
        var asked = RequestExchange(limits, at: start)
        _ = asked.received(Array("GET / HTTP/1.1\n\n".utf8)[...], at: start)
        #expect(!asked.mayBeLetGo && asked.ended().isNone)
    }
}

extension RequestExchange.Action {
    fileprivate var isNone: Bool { if case .none = self { true } else { false } }
    fileprivate var isEndSending: Bool { if case .endSending = self { true } else { false } }
    fileprivate var isClose: Bool { if case .close = self { true } else { false } }
    fileprivate var path: String? { if case .answer(let head) = self { head.path } else { nil } }
}
