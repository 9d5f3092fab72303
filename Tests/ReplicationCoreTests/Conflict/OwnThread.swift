import Foundation

/// Checks that compute at the same time: as many as the cores of a small machine.
private let places = DispatchSemaphore(value: 2)

/// Runs what computes for minutes on a thread of its own.
///
/// Tests share as many threads as there are cores: checks that keep those make every test that waits for something a minute late.
func onItsOwnThread(_ check: @escaping @Sendable () throws -> Void) async throws {
    try await withCheckedThrowingContinuation { continuation in
        Thread {
            places.wait()
            let result = Result { try check() }
            places.signal()
            continuation.resume(with: result)
        }.start()
    }
}
