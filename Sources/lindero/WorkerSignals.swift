import Dispatch
import Glibc
import Synchronization

/// SIGINT and SIGTERM: the first asks the worker to finish what it has, the second ends the program at once.
final class WorkerSignals {
    private var sources: [any DispatchSourceSignal] = []

    /// - Parameter onFirst: called once, on a queue of its own.
    init(onFirst: @escaping @Sendable () -> Void) {
        let queue = DispatchQueue(label: "lindero.signals")
        let asked = AskedOnce()
        for number in [SIGINT, SIGTERM] {
            // Without this the default action would end the process before the source is asked.
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler {
                if asked.isFirst() { return onFirst() }
                StatusLine.clear()
                StandardError.write(
                    "Ended at once. Progress is safe: it commits together with the data. Next: lindero run\n")
                _exit(LinderoExit.interrupted.rawValue)
            }
            source.resume()
            sources.append(source)
        }
    }

    deinit { for source in sources { source.cancel() } }
}

private final class AskedOnce: Sendable {
    private let isAsked = Mutex(false)

    func isFirst() -> Bool {
        isAsked.withLock { asked in
            defer { asked = true }
            return !asked
        }
    }
}
