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

    /// glibc's `mallopt(M_PERTURB, …)`, of which Swift's module does not know; whether it did so.
    private static func overwriteFreed(with byte: CInt) -> Bool {
        typealias Function = @convention(c) (CInt, CInt) -> CInt
        guard let symbol = dlsym(nil, "mallopt") else { return false }
        return unsafeBitCast(symbol, to: Function.self)(-6, byte) == 1
    }

    /// Who queues work holds no reference: done with it at once, the thread and all of it may be gone before the caller has
    /// given the signal. Then it was written into memory that was somebody else's.
    /// Memory that is freed is written over meanwhile, so that who still uses it does not get away with it.
    @Test func whoQueuesTheLastWorkFindsTheThreadStillThere() async {
        #expect(Self.overwriteFreed(with: 0xa5))
        defer { _ = Self.overwriteFreed(with: 0) }
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

    /// Swift's pool gives its threads a niceness of 0, whatever the process was started with; a worker that was to go first, or
    /// last, did neither with what it reads and applies.
    @Test func aConnectionsThreadIsAsNiceAsTheProcess() async throws {
        let process = CInt(PRIO_PROCESS.rawValue)
        let wanted = getpriority(process, id_t(getpid()))
        let told: [CInt] = await withCheckedContinuation { continuation in
            // A thread that is nicer than the process starts another.
            let isStarted = DetachedThread.start {
                setpriority(process, 0, wanted + 3)
                // Who may not become less nice can't be as the process is.
                let mayGoBack = setpriority(process, 0, wanted) == 0
                setpriority(process, 0, wanted + 3)
                let expected = mayGoBack ? wanted : wanted + 3
                let isInnerStarted = DetachedThread.start { continuation.resume(returning: [expected, getpriority(process, 0)]) }
                if !isInnerStarted { continuation.resume(returning: []) }
            }
            if !isStarted { continuation.resume(returning: []) }
        }
        #expect(told.count == 2 && told.first == told.last, "\(told)")
    }
}
