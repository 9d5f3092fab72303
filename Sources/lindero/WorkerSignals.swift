import Foundation
import Glibc
import Synchronization

/// The end of a pipe that counts signals, a byte each: a handler may do little more than write to a descriptor.
private nonisolated(unsafe) var signalPipe: CInt = -1

/// SIGINT and SIGTERM: the first asks the worker to finish what it has, the second ends the program at once.
///
/// From the moment `install` returns no signal is lost, however early it comes.
enum WorkerSignals {
    /// - Parameters:
    ///   - atOnce: what the second one tells of the work that it cuts off, and the next command.
    ///   - onFirst: called once, on a thread of its own.
    static func install(atOnce: String, onFirst: @escaping @Sendable () -> Void) {
        let ends = Pipe()
        signalPipe = dup(ends.fileHandleForWriting.fileDescriptor)
        let thread = Thread {
            takeSignal(ends)
            takeRepetitions(ends)
            onFirst()
            takeSignal(ends)
            StatusLine.clear()
            StandardError.write("Ended at once. \(atOnce)\n")
            _exit(LinderoExit.interrupted.rawValue)
        }
        thread.name = "lindero.signals"
        thread.start()
        for number in [SIGINT, SIGTERM] {
            signal(number) { _ in
                var byte: UInt8 = 1
                _ = write(signalPipe, &byte, 1)
            }
        }
    }

    /// `timeout` and others signal the process and its group at once: that is one wish, not two.
    private static func takeRepetitions(_ ends: Pipe) {
        var pipe = pollfd(fd: ends.fileHandleForReading.fileDescriptor, events: Int16(POLLIN), revents: 0)
        while poll(&pipe, 1, repetitionMilliseconds) > 0 { takeSignal(ends) }
    }

    private static let repetitionMilliseconds: CInt = 20

    private static func takeSignal(_ ends: Pipe) {
        var byte: UInt8 = 0
        while read(ends.fileHandleForReading.fileDescriptor, &byte, 1) < 0, errno == EINTR {}
    }
}

/// The wish to stop, which may come before there is anything to stop: a supervisor's SIGTERM can arrive while the
/// worker still reads its configuration, and must end it as cleanly as later.
final class StopRequest: Sendable {
    private enum State {
        case running(onRequest: @Sendable () -> Void)
        case requested
    }

    private let state = Mutex(State.running(onRequest: {}))

    var isRequested: Bool {
        state.withLock { if case .requested = $0 { true } else { false } }
    }

    func request() {
        let handler: (@Sendable () -> Void)? = state.withLock { state in
            guard case .running(let handler) = state else { return nil }
            state = .requested
            return handler
        }
        handler?()
    }

    /// Sets what a request does from now on; at once when it was already made.
    func onRequest(_ handler: @escaping @Sendable () -> Void) {
        let isRequested = state.withLock { state in
            if case .requested = state { return true }
            state = .running(onRequest: handler)
            return false
        }
        if isRequested { handler() }
    }
}
