import Foundation
import ReplicationCore

/// Answers `/`, `/metrics`, `/health`, `/status.json` and `/await` over HTTP. Reads only; there is no action to ask for.
public struct StatusServer: Sendable {
    /// Why a server is not started.
    public enum Failure: Error, Equatable, CustomStringConvertible {
        case tokenMissing(HTTPAddress)
        case tokenShort
        /// The server gave up listening; why, in the system's words.
        case socket(String)

        public var description: String {
            switch self {
            case .tokenMissing(let address):
                "\(address) can be reached by others, so a token is needed. Set LINDERO_HTTP_TOKEN, or listen on 127.0.0.1."
            case .tokenShort:
                "LINDERO_HTTP_TOKEN is too short to protect anything: 16 characters at least."
            case .socket(let words):
                words
            }
        }
    }

    static let shortestToken = 16
    static let sampleMilliseconds = 1_000

    private let address: HTTPAddress
    private let gate: RequestGate
    private let gates: Gates
    private let history = LagHistory()
    private let snapshot: @Sendable () -> StatusSnapshot
    private let wait: (@Sendable (AwaitRequest) async -> AwaitAnswer)?

    /// - Parameters:
    ///   - names: host names under which the server is reached, besides its address and `localhost`.
    ///   - token: needed off loopback; asked for on loopback too when it is given.
    ///   - gates: limits of the configuration, for `/health`.
    ///   - wait: returns when a replica shows a position, or the time is up; `nil` where nothing can be waited for.
    ///   - snapshot: called for every answer and once a second; must not block.
    public init(
        address: HTTPAddress = .standard, names: [String] = [], token: String? = nil, gates: Gates = Gates(),
        wait: (@Sendable (AwaitRequest) async -> AwaitAnswer)? = nil,
        snapshot: @escaping @Sendable () -> StatusSnapshot
    ) throws(Failure) {
        if token == nil && !address.isLoopback { throw .tokenMissing(address) }
        if let token, token.utf8.count < Self.shortestToken { throw .tokenShort }
        self.address = address
        gate = RequestGate(address: address, names: names, token: token)
        self.gates = gates
        self.wait = wait
        self.snapshot = snapshot
    }

    /// Serves until the task is cancelled.
    ///
    /// - Parameter onListening: called once, with the port that was really bound.
    /// - Throws: `Failure.socket` when the address can't be bound.
    public func run(onListening: @escaping @Sendable (HTTPAddress) -> Void = { _ in }) async throws {
        let server = RequestServer(address: address, limits: .init(answer: .milliseconds(Self.answerMilliseconds))) { await answer(to: $0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    try await server.run { onListening(HTTPAddress(host: address.host, port: $0)) }
                } catch let error as SocketDescriptor.Failure {
                    throw Failure.socket("\(error)")
                }
            }
            group.addTask {
                while true {
                    history.add(snapshot())
                    try await Task.sleep(for: .milliseconds(Self.sampleMilliseconds))
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Only `/await` takes any time.
    private static let answerMilliseconds = AwaitRequest.longestMilliseconds + 5_000
}

// MARK: answers

extension StatusServer {
    func answer(to request: RequestHead) async -> StatusAnswer {
        let verdict = gate.decide(
            method: request.method, host: request.field("host"), origin: request.field("origin"), authorization: request.field("authorization"))
        return
            switch verdict {
            case .pass where request.path == "/await": await awaiting(request)
            case .pass: page(request.path)
            case .refuse(let status, let reason): StatusAnswer.refusal(status, reason)
            }
    }

    private func awaiting(_ request: RequestHead) async -> StatusAnswer {
        guard let wait else { return .refusal(404, "Nothing can be waited for here.") }
        do {
            let wish = try AwaitRequest(query: request.query)
            return StatusAnswer(await wait(wish), to: wish)
        } catch {
            return .refusal(400, error.reason)
        }
    }

    private func page(_ path: String) -> StatusAnswer {
        let snapshot = snapshot()
        switch path {
        case "/":
            let nonce = StatusPage.makeNonce()
            let page = StatusPage(
                snapshot: snapshot, health: HealthReport(snapshot, gates: gates), history: history.samples(), nonce: nonce)
            return .page(page.html, nonce: nonce)
        case "/metrics": return .text(MetricsText(snapshot).text, type: "text/plain; version=0.0.4; charset=utf-8")
        case "/health":
            let health = HealthReport(snapshot, gates: gates)
            var answer = StatusAnswer.json(health.document)
            answer.status = health.isHealthy ? 200 : 503
            return answer
        case "/status.json": return .json(snapshot.document)
        default: return .refusal(404, "Here are /, /metrics, /health, /status.json and /await.")
        }
    }
}
