import CLibPQ
import Glibc
import Synchronization

/// Wakes a thread that waits in `poll`: an eventfd which any thread may raise.
final class WakeEvent: Sendable {
    fileprivate let descriptor: CInt
    /// So that nobody asks the kernel about what never happened; set after the descriptor, which may be ready before.
    private let isRaised = Atomic(false)

    init() throws(PostgresError) {
        descriptor = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        if descriptor < 0 {
            throw .connection(
                ConnectionFailure(reason: .resources, message: "no file descriptor left for a connection"))
        }
    }

    deinit { Glibc.close(descriptor) }

    func raise() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, MemoryLayout<UInt64>.size)
        isRaised.store(true, ordering: .sequentiallyConsistent)
    }

    /// Forgets what was raised so far.
    func clear() {
        guard isRaised.exchange(false, ordering: .sequentiallyConsistent) else { return }
        var count: UInt64 = 0
        _ = read(descriptor, &count, MemoryLayout<UInt64>.size)
    }
}

/// A moment on the monotonic clock, or never.
struct Deadline {
    /// More than anybody waits, and no more than the clock can count.
    private static let longestMilliseconds = 1 << 40
    private let nanoseconds: Int64?

    static let never = Deadline(milliseconds: nil)

    init(milliseconds: Int?) {
        nanoseconds = milliseconds.map {
            MonotonicClock.nanoseconds() + Int64(min($0, Self.longestMilliseconds)) * 1_000_000
        }
    }

    var isPast: Bool { nanoseconds.map { $0 <= MonotonicClock.nanoseconds() } ?? false }

    /// For `poll`: -1 means for ever; a fraction of a millisecond counts as one, so that no wait spins.
    fileprivate var pollMilliseconds: CInt {
        guard let nanoseconds else { return -1 }
        let left = nanoseconds - MonotonicClock.nanoseconds()
        return left <= 0 ? 0 : CInt(min((left + 999_999) / 1_000_000, 86_400_000))
    }
}

enum SocketWait {
    enum Outcome {
        case ready(readable: Bool, writable: Bool, isBesideReadable: Bool)
        case timedOut
        case interrupted
        case failed
    }

    /// Waits until the socket is ready, or another one beside it can be read, the deadline passes or `wake` is raised.
    static func wait(
        socket: CInt, reading: Bool, writing: Bool, beside: CInt = -1, wake: WakeEvent?, deadline: Deadline
    ) -> Outcome {
        let events = (reading ? POLLIN : 0) | (writing ? POLLOUT : 0)
        while true {
            var descriptors = (
                pollfd(fd: socket, events: Int16(events), revents: 0),
                pollfd(fd: wake?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: beside, events: Int16(POLLIN), revents: 0)
            )
            let count = withUnsafeMutableBytes(of: &descriptors) { raw in
                poll(raw.assumingMemoryBound(to: pollfd.self).baseAddress, 3, deadline.pollMilliseconds)
            }
            if count < 0 {
                if errno == EINTR { continue }
                return .failed
            }
            if descriptors.1.revents != 0 { return .interrupted }
            let ready = Int32(descriptors.0.revents)
            if ready & POLLNVAL != 0 { return .failed }
            if ready != 0 || descriptors.2.revents != 0 {
                // An error or hang-up counts as readable: libpq then reads it and says what it is.
                let broken = ready & (POLLERR | POLLHUP) != 0
                return .ready(
                    readable: broken || ready & POLLIN != 0, writable: broken || ready & POLLOUT != 0,
                    isBesideReadable: descriptors.2.revents != 0)
            }
            if deadline.isPast { return .timedOut }
        }
    }
}
