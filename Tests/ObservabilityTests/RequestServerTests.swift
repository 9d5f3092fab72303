import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Observability

/// What may come over the wire before anybody knows from whom.
@Suite struct RequestServerTests {
    @Test(.timeLimit(.minutes(1))) func aLongLineIsRefusedAndCostsNothing() async throws {
        try await serving { port in
            let answer = try await RawHTTP.request("/" + String(repeating: "a", count: RequestHead.limitBytes), port: port)
            #expect(answer.status == 431)
            for _ in 0..<4 {
                let flood = try Dialled(port)
                await blocking {
                    flood.send(Array("GET /".utf8) + [UInt8](repeating: 97, count: 4 << 20))
                    flood.hangUp()
                }.value
            }
            #expect(try await RawHTTP.request("/", port: port).status == 200)
            #expect(try await RawHTTP.request("/", port: port, headers: [("Host", "a"), ("Host", "b")]).status == 400)
        }
    }

    @Test(.timeLimit(.minutes(1))) func connectionsThatSayNothingAreLetGo() async throws {
        try await serving(head: .milliseconds(300)) { port in
            let idle = try Dialled.idle(12, port)
            #expect(await blocking { idle.allSatisfy { $0.isHungUp() } }.value)
        }
    }

    /// However many they are, whoever asks is answered: the oldest of those that say nothing make room.
    @Test(.timeLimit(.minutes(1))) func connectionsThatSayNothingMakeRoom() async throws {
        try await serving(connections: 4, head: .seconds(3_600)) { port in
            let idle = try Dialled.idle(12, port)
            #expect(try await RawHTTP.request("/", port: port).status == 200)
            let oldest = idle[..<8]
            #expect(await blocking { oldest.allSatisfy { $0.isHungUp() } }.value)
        }
    }

    /// Who waits for an answer keeps its place; others wait at the door.
    @Test(.timeLimit(.minutes(1))) func whoWaitsForAnAnswerKeepsItsPlace() async throws {
        let started = Mutex(0)
        let isReleased = Mutex(false)
        try await serving(connections: 2, answers: { head in
            started.withLock { $0 += 1 }
            try? await waitUntil("they are released") { isReleased.withLock { $0 } }
            return StatusAnswer.refusal(200, head.path)
        }) { port in
            async let one = RawHTTP.request("/one", port: port)
            async let two = RawHTTP.request("/two", port: port)
            try await waitUntil("both are at work") { started.withLock { $0 == 2 } }
            let third = try Dialled(port)
            third.send(Array("GET /three HTTP/1.1\r\n\r\n".utf8))
            isReleased.withLock { $0 = true }
            let answers = try await [one, two].map(\.body) + [await blocking { third.everything() }.value]
            #expect(answers[..<2] == ["/one\n", "/two\n"] && answers[2].hasSuffix("\r\n\r\n/three\n"))
        }
    }

    /// A whole page arrives, though its reader takes it slowly and goes on talking.
    @Test(.timeLimit(.minutes(1))) func anAnswerArrivesWhole() async throws {
        let body = String(repeating: "línea\n", count: 1 << 20)
        try await serving(answers: { _ in StatusAnswer.text(body, type: "text/plain") }) { port in
            let one = try Dialled(port)
            let text = await blocking { () -> String in
                one.send(Array("POST / HTTP/1.1\r\nHost: a\r\n\r\n".utf8) + [UInt8](repeating: 97, count: 100_000))
                return one.everything()
            }.value
            #expect(text.hasPrefix("HTTP/1.1 200 OK\r\n") && text.hasSuffix("\r\n\r\n" + body))
        }
    }

    @Test(.timeLimit(.minutes(1))) func itEndsWhileOthersAreConnected() async throws {
        let (started, start) = AsyncStream.makeStream(of: Void.self)
        var left: [Dialled] = []
        try await serving(answers: { _ in
            start.yield()
            try? await Task.sleep(for: .seconds(3_600))
            return StatusAnswer.refusal(200, "")
        }) { port in
            left = try Dialled.idle(3, port)
            let asking = try Dialled(port)
            asking.send(Array("GET / HTTP/1.1\r\n\r\n".utf8))
            left.append(asking)
            for await _ in started { break }
        }
        let all = left
        #expect(await blocking { all.allSatisfy { $0.isHungUp() } }.value)
    }

    /// A connection whose client does as it likes.
    private final class Dialled: Sendable {
        private let descriptor: CInt

        init(_ port: UInt16) throws {
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
            try #require(result == 0)
        }

        deinit { close(descriptor) }

        /// So many that begin a head and say no more.
        static func idle(_ count: Int, _ port: UInt16) throws -> [Dialled] {
            try (0..<count).map { _ in
                let one = try Dialled(port)
                one.send(Array("GET / HTTP/1.1\r\nHo".utf8))
                return one
            }
        }

        /// What comes until the other side ends.
        func everything() -> String {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = recv(descriptor, &buffer, buffer.count, 0)
                if count <= 0 { return String(decoding: bytes, as: UTF8.self) }
                bytes += buffer[..<count]
            }
        }

        /// As much as is taken.
        func send(_ bytes: [UInt8]) {
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress?.advanced(by: sent), bytes.count - sent, Int32(MSG_NOSIGNAL)) }
                if count <= 0 { return }
                sent += count
            }
        }

        func hangUp() { shutdown(descriptor, Int32(SHUT_RDWR)) }

        /// Waits until the other side has ended it.
        func isHungUp() -> Bool {
            var limit = timeval(tv_sec: 20, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            var byte: UInt8 = 0
            while true {
                let count = recv(descriptor, &byte, 1, 0)
                if count == 0 || count < 0 && errno == ECONNRESET { return true }
                if count < 0 { return false }
            }
        }
    }

    private func serving(
        connections: Int = 256, head: Duration = .seconds(10),
        answers: @escaping @Sendable (RequestHead) async -> StatusAnswer = { head in StatusAnswer.refusal(head.field("host") == nil ? 400 : 200, head.path) },
        _ body: (UInt16) async throws -> Void
    ) async throws {
        let (ports, port) = AsyncStream.makeStream(of: UInt16.self)
        let limits = RequestExchange.Limits(head: head, answer: .seconds(60), connections: connections)
        let server = RequestServer(address: HTTPAddress(host: "127.0.0.1", port: 0), limits: limits, answer: answers)
        let running = Task { try await server.run { port.yield($0) } }
        let bound = try #require(await ports.first { _ in true })
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await body(bound)) } catch { outcome = .failure(error) }
        running.cancel()
        _ = await running.result
        try outcome.get()
    }
}
