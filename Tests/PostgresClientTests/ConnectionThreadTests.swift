import Glibc
import Testing

@testable import PostgresClient

@Suite struct ConnectionThreadTests {
    /// As a connection: its thread ends with it.
    private actor Guest {
        private let thread = ConnectionThread()
        nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

        init() { thread.start() }
        deinit { thread.stop() }

        func work(_ number: Int) -> Int { number }
    }

    /// Who queues work holds no reference: done with it at once, the thread and all of it may be gone before the caller has
    /// given the signal. Then it was written into memory that was somebody else's.
    /// Memory that is freed is written over meanwhile, so that who still uses it does not get away with it.
    @Test func whoQueuesTheLastWorkFindsTheThreadStillThere() async {
        mallopt(M_PERTURB, 0xa5)
        defer { mallopt(M_PERTURB, 0) }
        let sum = await withTaskGroup(of: Int.self) { group in
            for number in 0..<8 {
                group.addTask {
                    var sum = 0
                    for _ in 0..<2_000 { sum += await Guest().work(number) }
                    return sum
                }
            }
            return await group.reduce(0, +)
        }
        #expect(sum == 2_000 * 28)
    }
}
