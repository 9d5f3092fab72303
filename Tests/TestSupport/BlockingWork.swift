import Foundation

/// Runs `body`, which may block, on a thread of its own: Swift's pool has one thread a core, and tests that block them all wait for
/// each other for ever.
public func blocking<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Task<Value, Never> {
    Task {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: body()) }
        }
    }
}
