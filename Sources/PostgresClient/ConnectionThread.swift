import Foundation
import Synchronization

/// The executor of one connection: a thread of its own, so that libpq may block without holding up Swift's pool.
final class ConnectionThread: SerialExecutor {
    private struct Queue {
        var jobs: [UnownedJob] = []
        var isStopped = false
    }

    private let condition = NSCondition()
    // Guarded by `condition`.
    private let queue = Mutex(Queue())

    init(name: String) {
        let thread = Thread { [self] in run() }
        thread.name = name
        thread.stackSize = 1 << 20
        thread.start()
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let unowned = UnownedJob(job)
        condition.lock()
        queue.withLock { $0.jobs.append(unowned) }
        condition.signal()
        condition.unlock()
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

    /// Ends the thread once its queue is empty. Nothing may be enqueued afterwards.
    func stop() {
        condition.lock()
        queue.withLock { $0.isStopped = true }
        condition.signal()
        condition.unlock()
    }

    private func run() {
        while let job = next() { job.runSynchronously(on: asUnownedSerialExecutor()) }
    }

    private func next() -> UnownedJob? {
        condition.lock()
        defer { condition.unlock() }
        while true {
            let (job, isStopped) = queue.withLock { queue -> (UnownedJob?, Bool) in
                (queue.jobs.isEmpty ? nil : queue.jobs.removeFirst(), queue.isStopped)
            }
            if let job { return job }
            if isStopped { return nil }
            condition.wait()
        }
    }
}
