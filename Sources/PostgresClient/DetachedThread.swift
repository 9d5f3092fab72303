import CThread
import Glibc

/// Threads outside Swift's cooperative pool, for calls that block.
enum DetachedThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a thread of its own that ends with it.
    ///
    /// - Returns: false when the system has no thread to give; `body` is not run then.
    static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        let box = Unmanaged.passRetained(
            Body {
                blockSignals()
                shareSchedule()
                body()
            })
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let status = pthread_create(
            &thread, &attributes,
            { raw in
                if let raw { Unmanaged<Body>.fromOpaque(raw).takeRetainedValue().run() }
                return nil
            }, box.toOpaque())
        if status != 0 { box.release() }
        return status == 0
    }

    /// A thread begins with the niceness of the one that starts it, and Swift's pool gives its threads one of its own: 0. Whoever
    /// started the worker with another meant all of it. Where the system doesn't allow it, nothing changes.
    ///
    /// What a connection's thread does for a small transaction is soon done, and a reader of the target waits for it: a thread that
    /// asks for short slices is sooner its turn.
    private static func shareSchedule() {
        _ = lindero_share_schedule(300_000)
    }

    /// Signals are for the threads that ask for them; here they would only cut waits short.
    private static func blockSignals() {
        var everything = sigset_t()
        sigfillset(&everything)
        pthread_sigmask(SIG_BLOCK, &everything, nil)
    }
}
