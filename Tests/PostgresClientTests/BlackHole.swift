import Glibc

/// A port of 127.0.0.1 where connections are made and nobody ever answers: the kernel completes them, nothing accepts.
final class BlackHole: Sendable {
    let port: Int
    private let descriptor: CInt

    init() throws {
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let (socket, size) = (descriptor, length)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { plain in
                guard bind(socket, plain, size) == 0, listen(socket, 100) == 0 else { return CInt(-1) }
                return getsockname(socket, plain, &length)
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        if code != 0 { throw TestFailure() }
    }

    deinit { close(descriptor) }

    /// Whether somebody has connected and waits.
    var hasGuest: Bool {
        var guest = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&guest, 1, 0) == 1
    }

    /// Hangs up on everybody who waits.
    func dismissGuests() {
        while hasGuest { close(accept(descriptor, nil, nil)) }
    }

    func conninfo(_ more: String = "") -> String {
        "host=127.0.0.1 port=\(port) user=postgres dbname=postgres \(more)"
    }
}
