import PostgresClient
import ReplicationCore

/// What nobody carries any more if a side's slot is made anew.
public struct SlotGap: Sendable {
    public var slot: String
    /// Why it can't be read on; `nil` where it has all that is to come.
    public var reason: String?
    /// All that the side had committed before has arrived.
    public var since: LSN
    /// When it sent its newest sign of life that has arrived, in words; `nil` where none has.
    public var time: String?
}

/// Looks at a side's slot and at how far both directions have come; changes nothing.
struct SlotGapReader {
    /// How far the side's stream has come.
    struct Place {
        var outgoing: SplitProgress
        /// Of the direction that writes into the side.
        var incoming: SplitProgress

        /// From where on a worker reads: what either direction asks for.
        var start: LSN { min(outgoing.appliedLSN, incoming.context.lsn) }
        /// What either direction knows of the side's log.
        var reached: LSN { max(outgoing.appliedLSN, incoming.context.lsn) }
        /// And of the other side's.
        var reachedBack: LSN { max(incoming.appliedLSN, outgoing.context.lsn) }
    }

    let settings: SplitSettings
    let side: Side
    let sides: SidePair<PostgresConnection>

    private var outgoing: DirectionSettings { settings[reading: side] }
    private var check: SourceCheck { SourceCheck(settings: outgoing, connection: sides[side]) }

    /// - Throws: `ReplicationFailure` where another slot would not help; `PostgresError`.
    func read() async throws -> SlotGap {
        let place = try await place()
        // Of the other side, too: where it went back, what it has is less than what is noted here of it.
        for (side, reached) in [(side, place.reached), (side.opposite, place.reachedBack)] { try await requireHistory(of: side, upTo: reached) }
        try await check.verifyPublication()
        let (failure, _) = try await failure()
        let time = try await sides[side.opposite].query(
            "SELECT pg_catalog.date_trunc('second', sent_at)::text FROM lindero.heartbeat WHERE direction = $1", [.text(outgoing.name)])
        return SlotGap(slot: outgoing.slot, reason: failure?.message, since: place.outgoing.appliedLSN, time: time.firstValue)
    }

    private func requireHistory(of side: Side, upTo reached: LSN) async throws {
        let direction = settings[reading: side]
        let check = SourceCheck(settings: direction, connection: sides[side])
        let record = DirectionRecord(connection: sides[side.opposite], settings: direction)
        guard let known = try await record.read() else { throw notBegun(direction) }
        try await check.requireHistory(known, upTo: reached)
        try await ReplicationConnection.with(settings.options(side)) { stream in
            _ = try await check.verifyTimeline(stream, known: known.timeline, appliedLSN: reached)
        }
    }

    /// Why a worker could not read on; `nil` where it could.
    func failure() async throws -> (ReplicationFailure?, Place) {
        var failure: ReplicationFailure?
        var confirmed = LSN.zero
        do {
            confirmed = try await check.slot().confirmedLSN
        } catch let error as ReplicationFailure where [.slotMissing, .slotInvalidated].contains(error.code) {
            failure = error
        }
        // Read after the slot: what a running worker confirms is noted on both sides.
        let place = try await place()
        return (failure ?? check.gap(from: place.start, to: confirmed), place)
    }

    func place() async throws -> Place {
        Place(
            outgoing: try await progress(of: outgoing, on: sides[side.opposite]), incoming: try await progress(of: settings[writing: side], on: sides[side]))
    }

    private func progress(of direction: DirectionSettings, on target: PostgresConnection) async throws -> SplitProgress {
        if try await target.hasLindero("direction"),
            let progress = try await SplitProgressStore(connection: target, direction: direction.name).read()
        {
            return progress
        }
        throw notBegun(direction)
    }

    private func notBegun(_ direction: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .slotMissing, "\(direction.name) has not begun: \(direction.targetName) knows of no split with \(direction.sourceName).",
            nextStep: "Run `lindero status` to see the phase.", isBlocker: true)
    }
}
