import Glibc
import Synchronization

/// One dedicated thread that runs the jobs of one actor, in order.
///
/// libpq blocks, and the cooperative pool has one thread a core, so every connection gets a thread of its own
/// and waits there. The thread lives from `start` to `stop`. A job that arrives later (a call on a closed
/// connection) gets a new short-lived thread, so nobody waits for ever.
final class ConnectionThread: SerialExecutor {
    private enum Work: Sendable {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct State {
        var queue: [Work] = []
        var staysAlive = false
        var isRunning = false
        /// Signals that were announced, and that the thread has not taken. Whoever gives one holds no reference to us: with the
        /// work that it has queued, the last one may go. So the thread does not end before it has them all.
        var signals = 0
    }

    private let state = Mutex(State())
    /// Counts the pieces of work the thread has not looked at yet.
    private let signal = Semaphore()

    init() {}

    /// Starts the thread; it then waits for work until `stop`.
    func start() {
        state.withLock { $0.staysAlive = true }
        submit(.closure({}))
    }

    /// Ends the thread once the work queued so far and `last` are done.
    func stop(after last: @escaping @Sendable () -> Void = {}) {
        let isRunning = state.withLock { state in
            state.staysAlive = false
            return state.isRunning
        }
        if isRunning { submit(.closure(last)) } else { last() }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        submit(.job(UnownedJob(job)))
    }

    private func submit(_ work: Work) {
        let mustStart = state.withLock { state in
            state.queue.append(work)
            if state.isRunning { state.signals += 1 }
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if mustStart { launch() } else { signal.post() }
    }

    private func launch() {
        let isLaunched = DetachedThread.start { self.work() }
        // No more threads to be had: the caller's thread does what is queued, still one at a time.
        if !isLaunched { drainInline() }
    }

    private func work() {
        while true {
            let (batch, isOver) = takeQueue(endsWhenEmpty: false)
            if isOver { return }
            if batch.isEmpty { takeSignal() }
            for work in batch { run(work) }
        }
    }

    private func drainInline() {
        while true {
            let (batch, isOver) = takeQueue(endsWhenEmpty: true)
            if isOver { return }
            if batch.isEmpty { takeSignal() }
            for work in batch { run(work) }
        }
    }

    private func takeSignal() {
        signal.wait()
        state.withLock { $0.signals -= 1 }
    }

    private func takeQueue(endsWhenEmpty: Bool) -> (batch: [Work], isOver: Bool) {
        state.withLock { state in
            if state.queue.isEmpty && state.signals == 0 && (endsWhenEmpty || !state.staysAlive) {
                state.isRunning = false
                return ([], true)
            }
            let batch = state.queue
            state.queue.removeAll(keepingCapacity: true)
            return (batch, false)
        }
    }

    private func run(_ work: Work) {
        switch work {
        case .job(let job): job.runSynchronously(on: asUnownedSerialExecutor())
        case .closure(let closure): closure()
        }
    }
}

/// A POSIX semaphore at a fixed address.
private final class Semaphore: Sendable {
    // Written once; sem_t is made to be shared by threads.
    private nonisolated(unsafe) let semaphore: UnsafeMutablePointer<sem_t>

    init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func post() { sem_post(semaphore) }

    func wait() {
        while sem_wait(semaphore) != 0 && errno == EINTR {}
    }
}
