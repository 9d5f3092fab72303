import Synchronization

@testable import ReplicationCore

extension HistoryStorage {
    private final class Shelf: Sendable {
        let runs = Mutex<[Int: [UInt8]]>([:])
    }

    /// Keeps runs as a file would.
    static func memory() -> HistoryStorage {
        let shelf = Shelf()
        return HistoryStorage(
            write: { run, offset, bytes in shelf.runs.withLock { $0[run, default: []].replaceSubrange(offset..., with: bytes) } },
            read: { run, range in
                guard let bytes = shelf.runs.withLock({ $0[run] }) else { throw SpillFrame.Damage.otherBlock }
                return Array(bytes[range])
            },
            remove: { run in shelf.runs.withLock { $0[run] = nil } })
    }
}
