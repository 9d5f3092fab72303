import Dispatch
import Glibc

/// A file or stdin, read piece by piece on a thread that may block.
final class InputBytes: Sendable {
    static let pieceBytes = 1 << 20

    private let descriptor: Int32
    private let path: String
    private let queue = DispatchQueue(label: "lindero.input")

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

    /// The next bytes; `nil` at the end.
    func read() async throws -> [UInt8]? {
        let descriptor = descriptor
        let path = path
        return try await withCheckedThrowingContinuation { continuation in
            queue.async {
                var count = 0
                let bytes = [UInt8](unsafeUninitializedCapacity: Self.pieceBytes) { buffer, initialized in
                    repeat {
                        count = Glibc.read(descriptor, buffer.baseAddress, Self.pieceBytes)
                    } while count < 0 && errno == EINTR
                    initialized = max(0, count)
                }
                if count < 0 {
                    continuation.resume(throwing: Self.failure(errno, path: path))
                } else {
                    continuation.resume(returning: count == 0 ? nil : bytes)
                }
            }
        }
    }
}
