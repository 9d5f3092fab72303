import Logging
import ReplicationCore

/// A table that is truncated or rewritten before its turn needs a newer snapshot; all that is finished stays.
struct NewerSnapshots {
    private static let limit = 5

    let settings: DirectionSettings
    let logger: Logger

    /// - Parameter copy: goes on with what is left to do, however often it is called.
    /// - Throws: what `copy` throws; `.tableRewritten` once that has been met too often.
    func run(_ copy: () async throws -> Void) async throws {
        var tries = Self.limit
        while true {
            do {
                return try await copy()
            } catch let failure as ReplicationFailure {
                guard failure.code == .tableRewritten, tries > 0 else { throw failure }
                tries -= 1
                logger.notice("going on with a newer snapshot", metadata: ["direction": "\(settings.name)", "reason": "\(failure.message)"])
            }
        }
    }
}
