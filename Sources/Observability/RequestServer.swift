import FlyingSocks
import Foundation
import Glibc
import ReplicationCore
import Synchronization

/// Answers one request a connection, of which it reads the head alone. What anybody may cost it is bounded, before it is known who asks:
/// the bytes of a head, the time that it takes to come, how many connections are open.
struct RequestServer: Sendable {
    /// The kernel has no file, or no memory, for another connection now.
    private static let passing: Set<Int32> = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPROTO]
    private static let againMilliseconds = 100

    let address: HTTPAddress
    /// How long an answer, and sending it, may take.
    let answerMilliseconds: Int
    /// How long a head may take to come.
    var headMilliseconds = 10_000
    var mostConnections = 256
    let answer: @Sendable (RequestHead) async -> StatusAnswer

    /// Serves until the task is cancelled.
    ///
    /// - Parameter onListening: called once, with the port that was bound.
    /// - Throws: `SocketError` when the address can't be bound.
    func run(onListening: @Sendable (UInt16) -> Void) async throws {
        let socket = try listen()
        defer { try? socket.close() }
        let pool: some AsyncSocketPool = .ePoll()
        try await pool.prepare()
        if case .ip4(_, let port) = try socket.sockname() { onListening(port) }
        if case .ip6(_, let port) = try socket.sockname() { onListening(port) }
        let listener = try Self.asynchronous(socket, pool)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await pool.run() }
            group.addTask { try await accept(from: listener) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private static func asynchronous(_ socket: Socket, _ pool: some AsyncSocketPool) throws -> AsyncSocket { try AsyncSocket(socket: socket, pool: pool) }

    private func listen() throws -> Socket {
        func bound(_ address: some SocketAddress) throws -> Socket {
            let socket = try Socket(domain: Int32(type(of: address).family), type: .stream)
            do {
                try socket.setValue(true, for: .localAddressReuse)
                try socket.bind(to: address)
                try socket.listen()
                return socket
            } catch {
                try? socket.close()
                throw error
            }
        }
        // The address keeps its own type: the socket's family comes from it.
        if address.isIPv6 { return try bound(sockaddr_in6.inet6(ip6: address.host, port: address.port)) }
        return try bound(sockaddr_in.inet(ip4: address.host, port: address.port))
    }

    private func accept(from listener: AsyncSocket) async throws {
        let open = Connections(limit: mostConnections)
        try await withThrowingDiscardingTaskGroup { group in
            while true {
                let connection: AsyncSocket
                do {
                    connection = try await listener.accept()
                } catch SocketError.failed(_, let code, _) where Self.passing.contains(code) {
                    try await Task.sleep(for: .milliseconds(Self.againMilliseconds))
                    continue
                }
                guard open.enter() else {
                    try? connection.close()
                    continue
                }
                group.addTask {
                    await serve(connection)
                    try? connection.close()
                    open.leave()
                }
            }
        }
    }

    private final class Connections: Sendable {
        private let limit: Int
        private let count = Mutex(0)

        init(limit: Int) { self.limit = limit }

        func enter() -> Bool {
            count.withLock { count in
                guard count < limit else { return false }
                count += 1
                return true
            }
        }

        func leave() { count.withLock { $0 -= 1 } }
    }

    /// One that is slow, gone, or speaks something else is let go.
    private func serve(_ socket: AsyncSocket) async {
        let answer = answer
        do {
            let head = try await Self.within(headMilliseconds) { () -> Result<RequestHead, Refused>? in try await Self.head(from: socket) }
            guard let head else { return }
            _ = try await Self.within(answerMilliseconds) {
                switch head {
                case .success(let head):
                    try await socket.write(await answer(head).bytes(withBody: head.method != "HEAD"))
                case .failure(let refused):
                    try await socket.write(StatusAnswer.refusal(refused.status, refused.reason).bytes())
                }
                return true
            }
        } catch {}
    }

    private struct Refused: Error {
        var status: Int
        var reason: String
    }

    private static func head(from socket: AsyncSocket) async throws -> Result<RequestHead, Refused> {
        var bytes: [UInt8] = []
        while bytes.count <= RequestHead.limitBytes {
            let seen = bytes.count
            bytes += try await socket.read(atMost: 4_096)
            guard let end = RequestHead.end(of: bytes, from: seen) else { continue }
            if end > RequestHead.limitBytes { break }
            do {
                return .success(try RequestHead(bytes[..<end]))
            } catch {
                return .failure(Refused(status: 400, reason: "This is no request of HTTP/1.1."))
            }
        }
        return .failure(Refused(status: 431, reason: "The head of a request may have \(RequestHead.limitBytes) bytes."))
    }

    /// - Returns: `nil` when the time is up.
    private static func within<Value: Sendable>(_ milliseconds: Int, _ body: @escaping @Sendable () async throws -> Value?) async throws -> Value? {
        try await withThrowingTaskGroup(of: Value?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: .milliseconds(milliseconds))
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }
}
