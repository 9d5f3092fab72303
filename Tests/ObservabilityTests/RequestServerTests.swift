import Glibc
import TestSupport
import Testing

@testable import Observability

/// What may come over the wire before anybody knows from whom.
@Suite struct RequestServerTests {
    @Test(arguments: [
        "GET", "GET /", "GET / HTTP/2", "GET  / HTTP/1.1", "GET http://a/ HTTP/1.1", "G(T / HTTP/1.1", "GET / HTTP/1.1\r\nHost : a", "GET / HTTP/1.1\r\nA: b\r\n c",
        "GET / HTTP/1.1\r\n: a", "GET / HTTP/1.1\r\nHost", "GET /?a=%zz HTTP/1.1", "", "\u{1}\u{2}",
    ]) func whatIsNoRequestIsMalformed(_ text: String) {
        #expect(throws: RequestHead.Malformed.self) { try RequestHead((text + "\r\n\r\n").utf8) }
    }

    @Test func aHeadIsReadOnce() throws {
        let head = try RequestHead("GET /await?lsn=0%2F1&on=&x HTTP/1.1\r\nHost: a\r\nHOST: b\nOrigin:  http://c \r\n\r\n".utf8)
        #expect(head.method == "GET" && head.path == "/await")
        #expect(head.query.map { "\($0.name)=\($0.value)" } == ["lsn=0/1", "on=", "x="])
        #expect(head.field("host") == nil, "two of them mean different things to different readers")
        #expect(head.field("origin") == "http://c")
    }

    /// However it is cut into pieces.
    @Test(arguments: ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\nA: b\n\r\n"]) func aHeadEndsAtTheFirstEmptyLine(_ text: String) {
        let bytes = Array(text.utf8)
        for first in 0...bytes.count {
            #expect(RequestHead.end(of: Array(bytes[..<first]), from: 0) == (first == bytes.count ? bytes.count : nil))
            #expect(RequestHead.end(of: bytes + Array("more".utf8), from: first) == bytes.count || first > bytes.count - 1)
        }
    }

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

    /// Those that say nothing take the place of others for a while, and no longer.
    @Test(.timeLimit(.minutes(1))) func connectionsThatSayNothingAreLetGo() async throws {
        try await serving(mostConnections: 4, headMilliseconds: 300) { port in
            var idle: [Dialled] = []
            for _ in 0..<12 {
                let one = try Dialled(port)
                one.send(Array("GET / HTTP/1.1\r\nHo".utf8))
                idle.append(one)
            }
            try await waitUntil("there is room again") { (try? await RawHTTP.request("/", port: port).status) == 200 }
            let left = idle
            #expect(await blocking { left.allSatisfy { $0.isHungUp() } }.value)
        }
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

    private func serving(mostConnections: Int = 256, headMilliseconds: Int = 10_000, _ body: (UInt16) async throws -> Void) async throws {
        let (ports, port) = AsyncStream.makeStream(of: UInt16.self)
        var server = RequestServer(address: HTTPAddress(host: "127.0.0.1", port: 0), answerMilliseconds: 5_000) { head in
            StatusAnswer.refusal(head.field("host") == nil ? 400 : 200, head.path)
        }
        server.mostConnections = mostConnections
        server.headMilliseconds = headMilliseconds
        let running = Task { [server] in try await server.run { port.yield($0) } }
        let bound = try #require(await ports.first { _ in true })
        let outcome: Result<Void, any Error>
        do { outcome = .success(try await body(bound)) } catch { outcome = .failure(error) }
        running.cancel()
        _ = await running.result
        try outcome.get()
    }
}
