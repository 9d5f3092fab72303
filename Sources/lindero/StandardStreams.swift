import Glibc

/// What the command was asked for: read by people and scripts.
enum StandardOutput {
    static func write(_ text: String) { Descriptor.write(text, to: STDOUT_FILENO) }
    static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }
}

/// Logs, progress and failures.
enum StandardError {
    static func write(_ text: String) { Descriptor.write(text, to: STDERR_FILENO) }
    static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }
}

private enum Descriptor {
    /// Writes everything, whatever the pieces the system takes; a reader that is gone ends it.
    static func write(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var offset = 0
            while offset < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { return }
                offset += count
            }
        }
    }
}
