import Foundation
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Observability

/// Over real sockets, on a port that the system chose.
@Suite struct StatusServerTests {
    private static let token = "correct-horse-battery-staple"

    @Test(arguments: [false, true])
    func everyPageIsServed(isIPv6: Bool) async throws {
        try await serving(isIPv6: isIPv6) { port in
            let page = try await RawHTTP.request("/", port: port, isIPv6: isIPv6)
            #expect(page.status == 200)
            #expect(page.head.contains("text/html"))
            #expect(page.body.contains("</html>"))
            let metrics = try await RawHTTP.request("/metrics", port: port, isIPv6: isIPv6)
            #expect(metrics.status == 200)
            #expect(metrics.body.contains("# TYPE lindero_"))
            #expect(metrics.body.contains("lindero_conflicts_open{database=\"sync\"} 3\n"))
            #expect(metrics.body.contains("lindero_conflicts_oldest_seconds{database=\"sync\"} 7200\n"))
            let status = try await RawHTTP.request("/status.json", port: port, isIPv6: isIPv6)
            let decoded = try JSONDecoder().decode(StatusSnapshot.self, from: Data(status.body.utf8))
            #expect(decoded == Self.snapshot(.streaming))
            #expect(try await RawHTTP.request("/nothing", port: port, isIPv6: isIPv6).status == 404)
        }
    }

    @Test func namesAndProblemsCannotBecomeMarkup() async throws {
        try await serving { port in
            let page = try await RawHTTP.request("/", port: port).body
            #expect(page.contains("&lt;script&gt;"))
            #expect(!page.contains("<script>alert"))
        }
    }

    @Test func healthFollowsTheDirectionsAndTheGates() async throws {
        let phase = Mutex(DirectionPhase.streaming)
        try await serving(snapshot: { Self.snapshot(phase.withLock { $0 }) }) { port in
            let healthy = try await RawHTTP.request("/health", port: port)
            #expect(healthy.status == 200)
            // 7 s behind: beyond the gate of 2 s, which mends itself.
            #expect(healthy.body.contains("behind, gate"))
            #expect(healthy.body.contains("3 conflicts on sync wait for a person, the oldest for"))
            phase.withLock { $0 = .stopped }
            #expect(try await RawHTTP.request("/health", port: port).status == 503)
        }
    }

    @Test func onlyReadingFromOurOwnNamesIsAllowed() async throws {
        try await serving(names: ["status.hotel.example"]) { port in
            #expect(try await RawHTTP.request("/", method: "POST", port: port).status == 405)
            #expect(try await RawHTTP.request("/", port: port, headers: [("Host", "evil.example")]).status == 421)
            #expect(try await RawHTTP.request("/", port: port, headers: [("Host", "status.hotel.example")]).status == 200)
            let foreign = try await RawHTTP.request("/", port: port, headers: [("Origin", "http://evil.example")])
            #expect(foreign.status == 403)
            let head = try await RawHTTP.request("/", method: "HEAD", port: port)
            #expect(head.status == 200)
            #expect(head.body.isEmpty)
        }
    }

    @Test(arguments: [
        (nil, 401), ("Bearer wrong-horse-battery-staple", 401), ("Bearer \(token)", 200),
        ("Basic " + Data("anyone:\(token)".utf8).base64EncodedString(), 200),
    ])
    func tokenIsAskedForOnceGiven(authorization: String?, expected: Int) async throws {
        try await serving(token: Self.token) { port in
            let headers = authorization.map { [("Authorization", $0)] } ?? []
            for path in ["/", "/metrics", "/status.json", "/health"] {
                let answer = try await RawHTTP.request(path, port: port, headers: headers)
                #expect(answer.status == expected)
            }
        }
    }

    @Test func addressesOfOthersNeedAToken() {
        #expect(throws: StatusServer.Failure.tokenMissing(HTTPAddress(host: "0.0.0.0", port: 1))) {
            try StatusServer(address: HTTPAddress(host: "0.0.0.0", port: 1)) { Self.snapshot(.streaming) }
        }
        #expect(throws: StatusServer.Failure.tokenShort) {
            try StatusServer(address: .standard, token: "short") { Self.snapshot(.streaming) }
        }
    }

    @Test func takenPortIsAnError() async throws {
        try await serving { port in
            let second = try StatusServer(address: HTTPAddress(host: "127.0.0.1", port: port)) { Self.snapshot(.streaming) }
            await #expect(throws: (any Error).self) { try await second.run() }
        }
    }

    // MARK: the server under test

    private static func snapshot(_ phase: DirectionPhase) -> StatusSnapshot {
        var direction = DirectionStatus(name: "bot<script>alert(1)</script>->sync")
        direction.state = phase
        direction.problem = "Column \"<b>\" is missing."
        direction.lagSeconds = 7
        direction.slot = "lindero_bot_sync"
        return StatusSnapshot(
            version: "1", backend: "replica", phase: "replica", directions: [direction],
            conflicts: [ConflictStatus(database: "sync", openCount: 3, oldestAgeSeconds: 7_200)])
    }

    private func serving(
        isIPv6: Bool = false, names: [String] = [], token: String? = nil,
        snapshot: @escaping @Sendable () -> StatusSnapshot = { StatusServerTests.snapshot(.streaming) },
        _ body: (UInt16) async throws -> Void
    ) async throws {
        let address = HTTPAddress(host: isIPv6 ? "::1" : "127.0.0.1", port: 0)
        let server = try StatusServer(address: address, names: names, token: token, snapshot: snapshot)
        let (ports, found) = AsyncStream.makeStream(of: UInt16.self)
        let running = Task {
            defer { found.finish() }
            try await server.run { found.yield($0.port) }
        }
        var iterator = ports.makeAsyncIterator()
        guard let port = await iterator.next() else {
            try await running.value
            return
        }
        do {
            try await body(port)
        } catch {
            running.cancel()
            throw error
        }
        running.cancel()
        _ = await running.result
    }
}
