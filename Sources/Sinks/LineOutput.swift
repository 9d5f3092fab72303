import Dispatch
import Glibc
import Synchronization

/// A descriptor, usually stdout, that takes lines as fast as its reader does. Waiting for that reader blocks no task.
public final class LineOutput: Sendable {
    public struct Failure: Error, Sendable, CustomStringConvertible {
        let words: String
        public var description: String { "The output can't be written: \(words)." }
    }

    /// How long a cancelled write goes on, so that a reader that lives gets its last line whole.
    private static let graceMilliseconds = 1_000
    private static let pollMilliseconds: CInt = 50

    private let descriptor: CInt
    private let queue = DispatchQueue(label: "lindero.output")
    /// What is always taken at once after `poll` has said that there is room.
    private let pieceBytes: Int

    /// Ignores SIGPIPE in this process: a reader that is gone is an answer here, not a death.
    public init(_ descriptor: CInt = STDOUT_FILENO) {
        signal(SIGPIPE, SIG_IGN)
        self.descriptor = descriptor
        var status = stat()
        let isFile = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        pieceBytes = isFile ? 1 << 20 : Int(PIPE_BUF)
    }

    /// Whether nobody can read any more what is written, as far as can be known without writing.
    public var isReaderGone: Bool {
        var place = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&place, 1, 0) > 0 && place.revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0
    }

    /// Writes all of it, waiting for the reader as long as that takes or until the task is cancelled.
    ///
    /// - Returns: whether somebody still reads.
    public func write(_ bytes: [UInt8]) async throws -> Bool {
        let isCancelled = Flag()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                queue.async { continuation.resume(with: Result { try self.writeAll(bytes, isCancelled) }) }
            }
        } onCancel: {
            isCancelled.set()
        }
    }

    private func writeAll(_ bytes: [UInt8], _ isCancelled: Flag) throws -> Bool {
        var offset = 0
        var graceMilliseconds = Self.graceMilliseconds
        while offset < bytes.count {
            var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            if poll(&place, 1, Self.pollMilliseconds) <= 0 {
                if isCancelled.isSet { graceMilliseconds -= Int(Self.pollMilliseconds) }
                if graceMilliseconds < 0 { throw CancellationError() }
                continue
            }
            let length = min(pieceBytes, bytes.count - offset)
            let count = bytes[offset..<offset + length].withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                offset += count
            } else if errno == EPIPE {
                return false
            } else if errno != EINTR && errno != EAGAIN {
                throw Failure(words: String(cString: strerror(errno)))
            }
        }
        return true
    }
}

private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}
