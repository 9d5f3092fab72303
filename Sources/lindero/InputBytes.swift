import Dispatch
import Glibc

/// A file or stdin, read piece by piece on a thread that may block.
final class InputBytes: Sendable {
    static let pieceBytes = 1 << 20

    private let descriptor: Int32
    private let queue = DispatchQueue(label: "lindero.input")

    /// - Parameter path: `-` or `nil` for stdin.
    init(_ path: String?) throws {
        guard let path, path != "-" else {
            descriptor = STDIN_FILENO
            return
        }
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 {
            throw CommandFailure("input", String(cString: strerror(errno)), place: path, exit: .blocked)
        }
    }

    deinit { if descriptor > STDIN_FILENO { close(descriptor) } }

    /// The next bytes; `nil` at the end.
    func read() async throws -> [UInt8]? {
        let descriptor = descriptor
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
                    let words = String(cString: strerror(errno))
                    continuation.resume(throwing: CommandFailure("input", "The input can't be read: \(words)."))
                } else {
                    continuation.resume(returning: count == 0 ? nil : bytes)
                }
            }
        }
    }
}
