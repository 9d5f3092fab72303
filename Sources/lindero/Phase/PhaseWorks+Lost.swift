import PostgresClient
import ReplicationCore
import Replicator

extension PhaseWorks {
    /// Goes on without the second database, which is lost.
    func giveUp() async throws -> Figures {
        let settings = try await replica()
        let tables = try await LostRollback.tables(loaded, on: pair.origin)
        let (arrived, kept) = try await pair.origin.connected { origin in
            let lost = LostDatabase(outgoing: settings, left: origin, service: pair.other.name, tables: tables)
            let arrived = try await LostDatabase.arrived(settings, on: origin)
            var kept = StayingSequences()
            // The worker that ran the split may be on its way out.
            while try await !isFree({ kept = try await lost.takeDown { leftMilliseconds } }) { try await wait(for: "the worker lets go of slot \(settings.slot)") }
            return (arrived, kept)
        }
        for words in LostRollback.words(kept, on: pair.origin.name) { line.tell(words) }
        let stays = settings.replication.slot != nil
        if stays { line.tell("slot \(settings.slot) is named in \(loaded.path) and stays: it keeps WAL until it is dropped") }
        return [
            ("slot", .text(settings.slot)), ("dropped", .bool(!stays)), ("arrivedUpTo", .optional(arrived?.lsn?.description)),
            ("sequencesLeft", .texts((kept.halves + kept.behind).map(\.description))),
        ]
    }
}
