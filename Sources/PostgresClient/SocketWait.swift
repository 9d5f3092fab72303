import CLibPQ
import Glibc
import Synchronization

/// Wakes a thread that waits for a socket: for cancellation.
final class WakeEvent: Sendable {
    private let descriptor: Int32
    private let isRaised = Atomic(false)

    init() throws(PostgresError) {
        descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard descriptor >= 0 else { throw .connection("No file descriptor is free: \(String(cString: strerror(errno))).", nil) }
    }

    deinit { close(descriptor) }

    func raise() {
        isRaised.store(true, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    func clear() {
        guard isRaised.exchange(false, ordering: .sequentiallyConsistent) else { return }
        var count: UInt64 = 0
        _ = read(descriptor, &count, 8)
    }

    enum Outcome { case ready, timedOut, woken }

    /// Waits until the socket is ready, the deadline has passed, or `raise` was called.
    func wait(socket: Int32, reading: Bool, writing: Bool, deadline: Deadline?, heedsWake: Bool = true) -> Outcome {
        while true {
            let events = (reading ? Int16(POLLIN) : 0) | (writing ? Int16(POLLOUT) : 0)
            var descriptors = [
                pollfd(fd: socket, events: events, revents: 0),
                pollfd(fd: heedsWake ? descriptor : -1, events: Int16(POLLIN), revents: 0),
            ]
            let timeout = deadline?.remainingMilliseconds ?? -1
            let count = poll(&descriptors, 2, timeout)
            if count < 0 && errno == EINTR { continue }
            if descriptors[1].revents != 0 { return .woken }
            if count == 0 { return .timedOut }
            return .ready
        }
    }
}

/// A moment on the monotonic clock by which something must be done.
struct Deadline {
    private let end: ContinuousClock.Instant

    init(milliseconds: Int) { end = .now.advanced(by: .milliseconds(milliseconds)) }

    /// Rounded up, so that a wait never ends before the deadline; 0 when it has passed.
    var remainingMilliseconds: Int32 {
        let left = ContinuousClock.now.duration(to: end)
        guard left > .zero else { return 0 }
        let (seconds, attoseconds) = left.components
        return Int32(clamping: seconds * 1_000 + attoseconds / 1_000_000_000_000_000 + 1)
    }

    var hasPassed: Bool { ContinuousClock.now >= end }
}
