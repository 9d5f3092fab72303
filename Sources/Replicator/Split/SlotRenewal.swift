import Logging
import PostgresClient
import ReplicationCore

/// Gives a side of a split another slot, from now on, where the one it had has lost what comes next, or stands before a change that
/// can't be carried across. What the side has committed in between is on no way any more; `verify --repair` makes rows alike again.
///
/// What the other side has still to send comes as before. Killed anywhere, it is done again: until the new place is noted on both sides,
/// the slot begins later than what has arrived, and no worker starts (`slot_recreated`).
public struct SlotRenewal: Sendable {
    private let settings: SplitSettings
    private let side: Side
    private let logger: Logger
    /// Called between any two steps; a test that throws here is a kill.
    var afterStep: @Sendable () throws -> Void = {}

    /// - Parameter database: the side's name.
    public init(settings: SplitSettings, database: String, logger: Logger) {
        self.settings = settings
        side = settings.name(.origin) == database ? .origin : .other
        self.logger = logger
    }

    /// Reads the side.
    private var outgoing: DirectionSettings { settings[reading: side] }
    private var incoming: DirectionSettings { settings[writing: side] }

    /// Directions into a database whose slots were made anew, and when, in words.
    ///
    /// - Throws: `PostgresError`.
    public static func renewed(on target: PostgresConnection) async throws -> [(direction: String, time: String)] {
        guard try await target.hasLindero("direction") else { return [] }
        // The text of the row: an older Lindero's has no such column.
        return try await target.query(
            """
            SELECT name, pg_catalog.date_trunc('second', (pg_catalog.to_jsonb(d) ->> 'renewed_at')::timestamptz)::text
            FROM lindero.direction d WHERE pg_catalog.to_jsonb(d) ->> 'renewed_at' IS NOT NULL ORDER BY 1
            """
        ).rows.map { ($0[0] ?? "", $0[1] ?? "") }
    }

    /// Looks, and changes nothing.
    ///
    /// - Throws: `ReplicationFailure` where another slot would not help; `PostgresError`.
    public func gap() async throws -> SlotGap {
        try await settings.withBoth { try await SlotGapReader(settings: settings, side: side, sides: $0).read() }
    }

    /// Makes the slot anew, and has both directions go on from there.
    ///
    /// - Parameter givesUp: whether a slot is to go, too, that has all that is to come.
    /// - Returns: where it begins.
    /// - Throws: as `gap`; `ReplicationFailure` (`slot_in_use`) while a worker streams.
    public func renew(givesUp: Bool) async throws -> LSN {
        do {
            return try await PostgresConnection.with(incoming.applyOptions) { here in
                try await PostgresConnection.with(outgoing.applyOptions) { there in
                    for connection in [here, there] {
                        try await Migrator(connection: connection).migrate()
                        try await SplitProgressStore.commitDurably(connection)
                    }
                    // From here on no worker streams: what has arrived stays as it is.
                    try await ProgressOrigin(connection: here, direction: incoming.name).keep()
                    try await ProgressOrigin(connection: there, direction: outgoing.name).keep()
                    return try await renew(SidePair { $0 == side ? here : there }, givesUp: givesUp)
                }
            }
        } catch let error as PostgresError where error.isObjectInUse {
            throw SplitFailure(settings: settings).inUse()
        }
    }

    private func renew(_ sides: SidePair<PostgresConnection>, givesUp: Bool) async throws -> LSN {
        let (here, there) = (sides[side], sides[side.opposite])
        // What no change would settle any more.
        try await SplitIdentity(forward: settings[reading: .origin], sides: sides).require()
        let reader = SlotGapReader(settings: settings, side: side, sides: sides)
        let gap = try await reader.read()
        guard gap.reason != nil || givesUp else { throw whole(gap) }
        let place = try await reader.place()
        let time = try await here.query("SELECT \(PostgresTime.sql("pg_catalog.clock_timestamp()"))").firstValue.flatMap { Int64($0) }
        let lsn = try await makeSlot(here)
        try afterStep()
        // What was compared before says nothing any more, also what began while the slot was waited for.
        _ = try await sides[.other].query(
            "DELETE FROM lindero.verification WHERE direction = $1",
            [.text(VerifyDirection(source: settings.name(.origin), target: settings.name(.other), backend: .split).name)])
        let renewed = SplitProgress.renewed(
            outgoing: place.outgoing, incoming: place.incoming, at: lsn, time: PostgresTime(microseconds: time ?? 0))
        try await SplitProgressStore(connection: here, direction: incoming.name).begin(renewed.incoming)
        try afterStep()
        try await there.inTransaction {
            try await SplitProgressStore(connection: there, direction: outgoing.name).begin(renewed.outgoing)
            _ = try await there.query(
                """
                UPDATE lindero.direction SET renewed_at = pg_catalog.clock_timestamp(), state = '\(DirectionPhase.draining.rawValue)', problem = NULL
                WHERE name = $1
                """, [.text(outgoing.name)])
        }
        return lsn
    }

    private func makeSlot(_ source: PostgresConnection) async throws -> LSN {
        let exists = try await ReplicationObjects(settings: outgoing, source: source).slotExists()
        return try await ReplicationConnection.with(settings.options(side)) { walsender in
            if exists { try await walsender.dropSlot(outgoing.slot) }
            try afterStep()
            let made = try await SlotCreation(source: source, logger: logger).create(
                outgoing.slot, temporary: false, exportsSnapshot: false, on: walsender)
            return LSN(made.consistentPoint)
        }
    }

    private func whole(_ gap: SlotGap) -> ReplicationFailure {
        ReplicationFailure(
            .slotExists, "Replication slot \(gap.slot) on \(outgoing.sourceName) has all that is to come after \(gap.since): nothing is lost.",
            nextStep: "Run `lindero run`. To give up what waits in it all the same: `lindero slot renew \(outgoing.sourceName) --give-up`.",
            isBlocker: true)
    }
}
