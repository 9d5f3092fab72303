import Synchronization

/// The one line at the bottom of a terminal that is repainted; logs go above it.
enum StatusLine {
    private static let isShown = Mutex(false)

    /// Replaces the line on a terminal; prints a line of its own elsewhere.
    static func show(_ text: String) {
        guard StandardError.isTerminal else { return StandardError.write(text + "\n") }
        isShown.withLock { shown in
            StandardError.write("\r\u{1B}[K" + text)
            shown = true
        }
    }

    /// Takes the line away before something else is printed.
    static func clear() {
        isShown.withLock { shown in
            if shown { StandardError.write("\r\u{1B}[K") }
            shown = false
        }
    }
}
