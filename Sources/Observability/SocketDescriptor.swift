import Glibc

/// An open socket, or an end of a pipe, that never blocks and is closed with its last reference.
final class SocketDescriptor: Sendable {
    /// What the system refused, in its own words.
    struct Failure: Error, CustomStringConvertible {
        let code: CInt
        var description: String { String(cString: strerror(code)) }

        /// Says why the last call failed.
        static var last: Failure { Failure(code: errno) }
    }

    enum Received {
        case bytes(ArraySlice<UInt8>)
        case nothingYet
        /// The other side has said all it will say, or is gone.
        case end
    }

    let number: CInt

    private init(_ number: CInt) {
        self.number = number
        _ = fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }

    deinit { close(number) }

    /// Two ends of one pipe.
    static func pipe() throws(Failure) -> (reading: SocketDescriptor, writing: SocketDescriptor) {
        var ends: [CInt] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else { throw .last }
        return (SocketDescriptor(ends[0]), SocketDescriptor(ends[1]))
    }

    // MARK: listening

    static func listening(at address: HTTPAddress) throws(Failure) -> SocketDescriptor {
        let number = socket(address.isIPv6 ? AF_INET6 : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw .last }
        let made = SocketDescriptor(number)
        // A worker that is started again finds its port, though connections of its predecessor are still ending.
        var yes: CInt = 1
        setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
        guard try made.bind(to: address) == 0, listen(number, SOMAXCONN) == 0 else { throw .last }
        return made
    }

    private func bind(to address: HTTPAddress) throws(Failure) -> CInt {
        if address.isIPv6 {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = address.port.bigEndian
            guard inet_pton(AF_INET6, address.host, &name.sin6_addr) == 1 else { throw Failure(code: EINVAL) }
            return Self.with(&name) { Glibc.bind(number, $0, $1) }
        }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = address.port.bigEndian
        guard inet_pton(AF_INET, address.host, &name.sin_addr) == 1 else { throw Failure(code: EINVAL) }
        return Self.with(&name) { Glibc.bind(number, $0, $1) }
    }

    private static func with<Name>(_ name: inout Name, _ body: (UnsafeMutablePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<Name>.size)) }
        }
    }

    /// The port that the system bound.
    var port: UInt16 {
        var name = sockaddr_in6()
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        _ = Self.with(&name) { pointer, _ in getsockname(number, pointer, &size) }
        // Family and port stand at the same place in both kinds of address.
        return UInt16(bigEndian: name.sin6_port)
    }

    /// - Returns: `nil` when nobody is there any more.
    func accept() throws(Failure) -> SocketDescriptor? {
        let accepted = Glibc.accept(number, nil, nil)
        if accepted >= 0 { return SocketDescriptor(accepted) }
        switch errno {
        // What has happened to the one that came, as Linux tells it here.
        case EAGAIN, ECONNABORTED, EINTR, EPROTO, EPERM, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP: return nil
        default: throw .last
        }
    }

    // MARK: bytes

    func receive(into buffer: inout [UInt8]) -> Received {
        let count = recv(number, &buffer, buffer.count, 0)
        if count > 0 { return .bytes(buffer[..<count]) }
        return count < 0 && (errno == EAGAIN || errno == EINTR) ? .nothingYet : .end
    }

    /// - Returns: how many were taken; `nil` when the other side is gone.
    func send(_ bytes: ArraySlice<UInt8>) -> Int? {
        let count = bytes.withUnsafeBytes { Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count >= 0 { return count }
        return errno == EAGAIN || errno == EINTR ? 0 : nil
    }

    /// Tells the other side that nothing more will come.
    func endSending() { shutdown(number, Int32(SHUT_WR)) }
}
