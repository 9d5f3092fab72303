import Foundation
import Glibc
import Synchronization

/// A stretch of network between a client and a server on loopback, which a test can cut: what is under way then waits, as
/// behind a dead switch, and goes on after `mend`.
public final class NetworkRelay: Sendable {
    public struct Failure: Error { public let what: String }

    public let port: Int
    private let listener: Int32
    public let server: Int
    private let state = Mutex((isCut: false, isClosed: false))
    private let change = NSCondition()
    private let heard: @Sendable (ArraySlice<UInt8>) -> Void
    private let rewrite: (@Sendable ([UInt8]) -> [UInt8])?

    /// - Parameters:
    ///   - server: port on 127.0.0.1 that connections go on to.
    ///   - heard: called with each piece that a client sends, before it goes on.
    ///   - rewrite: what the client gets instead of a piece that the server sends.
    public init(
        to server: Int, heard: @escaping @Sendable (ArraySlice<UInt8>) -> Void = { _ in }, rewrite: (@Sendable ([UInt8]) -> [UInt8])? = nil
    ) throws {
        self.server = server
        self.rewrite = rewrite
        self.heard = heard
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = Self.address(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, length) == 0 && getsockname(listener, $0, &length) == 0 }
        }
        guard bound, listen(listener, 64) == 0 else { throw Failure(what: "no port to listen on") }
        self.listener = listener
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread { [self] in accept() }
    }

    public func cut() { state.withLock { $0.isCut = true } }

    public func mend() {
        state.withLock { $0.isCut = false }
        change.broadcast()
    }

    public func close() {
        state.withLock { $0.isClosed = true }
        change.broadcast()
        shutdown(listener, Int32(SHUT_RDWR))
    }

    private var isCut: Bool { state.withLock { $0.isCut } }
    private var isClosed: Bool { state.withLock { $0.isClosed } }

    private static func address(port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private func accept() {
        while !isClosed {
            // No program that a test starts may keep an end of it open.
            let client = Glibc.accept(listener, nil, nil)
            if client >= 0 { _ = fcntl(client, F_SETFD, FD_CLOEXEC) }
            if client < 0 { break }
            let onward = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            var address = Self.address(port: server)
            let isConnected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(onward, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            guard isConnected else {
                Glibc.close(client)
                Glibc.close(onward)
                continue
            }
            // Each way on its own: a client that reads no more must still be heard.
            let stretch = Stretch(client, onward)
            for (from, to) in [(client, onward), (onward, client)] {
                Thread.detachNewThread { [self] in
                    if from == client {
                        pump(from, to) { piece in
                            heard(piece[...])
                            return piece
                        }
                    } else {
                        pump(from, to, rewrite ?? { $0 })
                    }
                    stretch.end()
                }
            }
        }
        Glibc.close(listener)
    }

    private func waitForChange() {
        change.lock()
        // A change between the look and the wait is seen by the next look.
        _ = change.wait(until: Date(timeIntervalSinceNow: 0.1))
        change.unlock()
    }

    /// One way, until one end is closed.
    private func pump(_ from: Int32, _ to: Int32, _ pass: @Sendable ([UInt8]) -> [UInt8]) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while !isClosed {
            while isCut, !isClosed { waitForChange() }
            var polls = [pollfd(fd: from, events: Int16(POLLIN), revents: 0)]
            guard poll(&polls, 1, 20) >= 0 else { return }
            if polls[0].revents == 0 { continue }
            let count = read(from, &buffer, buffer.count)
            if count <= 0 { return }
            let piece = pass(Array(buffer[..<count]))
            var sent = 0
            while sent < piece.count {
                let written = piece[sent...].withUnsafeBytes { send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                if written <= 0 { return }
                sent += written
            }
        }
    }
}

/// Both ends of a connection, which are closed once neither way needs them.
private final class Stretch: Sendable {
    private let ends: [Int32]
    private let ways = Mutex(2)

    init(_ client: Int32, _ onward: Int32) { ends = [client, onward] }

    func end() {
        for end in ends { shutdown(end, Int32(SHUT_RDWR)) }
        let left = ways.withLock { ways in
            ways -= 1
            return ways
        }
        if left == 0 { for end in ends { Glibc.close(end) } }
    }
}
