import Dispatch
import Glibc
import Synchronization

/// A file or stdin, read piece by piece on a thread that may block.
final class InputBytes: Sendable {
    static let pieceBytes = 1 << 20

    private let descriptor: Int32
    private let path: String
    private let queue = DispatchQueue(label: "lindero.input")
    private let waiting = Waiting()

    /// - Parameter path: `-` or `nil` for stdin.
    init(_ path: String?) throws {
        guard let path, path != "-" else {
            descriptor = STDIN_FILENO
            self.path = "stdin"
            return
        }
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { throw Self.failure(errno, path: path) }
        var status = stat()
        if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
            close(descriptor)
            throw Self.failure(EISDIR, path: path)
        }
    }

    private static func failure(_ code: Int32, path: String) -> CommandFailure {
        CommandFailure(
            "input", "The input can't be read: \(String(cString: strerror(code))).", place: path,
            nextStep: "Name a file that you may read, or - for stdin.", exit: .blocked)
    }

    deinit { if descriptor > STDIN_FILENO { close(descriptor) } }

    /// Ends a read that waits, and every later one, with `CancellationError`.
    func stop() { waiting.stop() }

    /// The next bytes; `nil` at the end.
    func read() async throws -> [UInt8]? {
        let descriptor = descriptor
        let path = path
        let waiting = waiting
        return try await withCheckedThrowingContinuation { continuation in
            guard waiting.begin(continuation) else { return }
            queue.async {
                var count = 0
                let bytes = [UInt8](unsafeUninitializedCapacity: Self.pieceBytes) { buffer, initialized in
                    repeat {
                        count = Glibc.read(descriptor, buffer.baseAddress, Self.pieceBytes)
                    } while count < 0 && errno == EINTR
                    initialized = max(0, count)
                }
                waiting.end(count < 0 ? .failure(Self.failure(errno, path: path)) : .success(count == 0 ? nil : bytes))
            }
        }
    }

    /// Who waits for bytes: a terminal or a pipe may have none for ever.
    private final class Waiting: Sendable {
        private enum State {
            case idle
            case waits(CheckedContinuation<[UInt8]?, any Error>)
            case stopped
        }

        private let state = Mutex(State.idle)

        /// Whether there is to be read.
        func begin(_ continuation: CheckedContinuation<[UInt8]?, any Error>) -> Bool {
            let isStopped = state.withLock { state in
                if case .stopped = state { return true }
                state = .waits(continuation)
                return false
            }
            if isStopped { continuation.resume(throwing: CancellationError()) }
            return !isStopped
        }

        func end(_ result: Result<[UInt8]?, any Error>) { leave(.idle)?.resume(with: result) }

        func stop() { leave(.stopped)?.resume(throwing: CancellationError()) }

        private func leave(_ next: State) -> CheckedContinuation<[UInt8]?, any Error>? {
            state.withLock { state in
                switch state {
                case .stopped: return nil
                case .idle:
                    state = next
                    return nil
                case .waits(let continuation):
                    state = next
                    return continuation
                }
            }
        }
    }
}
