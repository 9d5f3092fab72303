import Replicator

extension PhaseWorks {
    /// Goes on without the second database, which is lost.
    func giveUp() async throws -> Figures {
        let settings = try await replica()
        let arrived = try await pair.origin.connected { origin in
            let lost = LostDatabase(outgoing: settings, left: origin, service: pair.other.name)
            let arrived = try await lost.arrived()
            // The worker that ran the split may be on its way out.
            while try await !isFree({ try await lost.takeDown { leftMilliseconds } }) { try await wait(for: "the worker lets go of slot \(settings.slot)") }
            return arrived
        }
        let stays = settings.replication.slot != nil
        if stays { line.tell("slot \(settings.slot) is named in \(loaded.path) and stays: it keeps WAL until it is dropped") }
        return [
            ("slot", .text(settings.slot)), ("dropped", .bool(!stays)), ("arrivedUpTo", .optional(arrived?.lsn?.description)),
        ]
    }
}
