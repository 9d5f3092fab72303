import Logging
import PostgresClient
import ReplicationCore

/// Ends a split: one database is written again, and the other is its replica from where the forward direction stands.
///
/// For when no service writes to the other side any more, and no worker runs the directions. Every step can be killed and
/// done again; what makes the split past is one transaction on the other side.
public struct SplitEnd: Sendable {
    /// With the ownership of a transition, under which the last writes came.
    private let settings: SplitSettings
    private let logger: Logger
    /// How long the slot may still be held by a worker that has just ended.
    var releaseMilliseconds: Int64 = 30_000
    /// Called between any two steps; a test that throws here is a kill.
    var afterStep: @Sendable () throws -> Void = {}
    private static let passes = 3

    public init(settings: SplitSettings, logger: Logger) {
        self.settings = settings.inTransition
        self.logger = logger
    }

    private var forward: DirectionSettings { settings[reading: .origin] }
    private var backward: DirectionSettings { settings[reading: .other] }

    /// - Returns: tables that were emptied on the other side, where their own numbers were others than the origin's: they
    ///   are copied anew.
    /// - Throws: `ReplicationFailure` with what a person has to do; `PostgresError`.
    public func run() async throws -> [QualifiedName] {
        for side in Side.allCases {
            _ = try await PostgresConnection.with(settings.options(side)) { try await Migrator(connection: $0).migrate() }
        }
        var emptied: [QualifiedName] = []
        if try await hasBegun() {
            try await bringTheRest()
            emptied = try await settings.withBoth { sides in
                try afterStep()
                try await restoreSequences(sides)
                try afterStep()
                // They may have been waited for.
                guard try await remainder() == 0 else { throw stillWritten() }
                return try await becomeReplica(sides[.other])
            }
            logger.notice("the split has ended", metadata: ["from": "\(settings.name(.other))", "to": "\(settings.name(.origin))"])
        } else {
            // Shared out just before a split that then never began.
            try await settings.withBoth { try await restoreSequences($0) }
        }
        try await takeDown()
        return emptied
    }

    private func restoreSequences(_ sides: SidePair<PostgresConnection>) async throws {
        try await settings.sequences(origin: sides[.origin], other: sides[.other]).restoreOrSayWhy()
    }

    private func hasBegun() async throws -> Bool {
        try await PostgresConnection.with(settings.options(.other)) {
            try await SplitProgressStore(connection: $0, direction: forward.name).read() != nil
        }
    }

    // MARK: the last writes

    /// Carries what is left, and makes sure that nothing is: a service that still writes there would lose it.
    private func bringTheRest() async throws {
        for _ in 0..<Self.passes {
            try await waitForRelease()
            do {
                try await carry()
            } catch {
                // A direction that can't run is no reason to stay, where nothing waits to come back.
                guard try await remainder() == 0 else { throw error }
                logger.warning("the directions could not run once more; nothing waits to come back", metadata: ["reason": "\(error)"])
                return
            }
            try await waitForRelease()
            if try await remainder() == 0 { return }
        }
        throw stillWritten()
    }

    private func stillWritten() -> ReplicationFailure {
        ReplicationFailure(
            .splitWritten, "Somebody still writes to \(settings.name(.other)): the split can't end without losing that.",
            nextStep: "Stop or move who does (`lindero status` names sessions); then the same command again.")
    }

    /// One last life of both directions, up to what both have now.
    private func carry() async throws {
        let states = SidePair { _ in DirectionState() }
        let supervisor = SplitSupervisor(settings: settings, states: states, logger: logger, worker: "end-\(UInt64.random(in: 0...UInt64.max))")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await supervisor.run() }
            group.addTask {
                defer { for state in states.both { state.drain() } }
                try await SplitDrain(settings: settings).pass()
            }
            try await group.waitForAll()
        }
    }

    /// Row changes that the way back has not applied. The server counts them: a backlog of any size is one number here.
    func remainder() async throws -> Int {
        let applied = try await PostgresConnection.with(settings.options(.origin)) {
            try await SplitProgressStore(connection: $0, direction: backward.name).read()?.appliedLSN
        }
        guard let applied else { return 0 }
        return try await PostgresConnection.with(settings.options(.other)) { other in
            let own = try await ProgressOrigin(connection: other, direction: forward.name).name()
            // B: where the transaction commits; O: who it is from; I, U, D, T: what it changes.
            let count = try await other.query(
                """
                SELECT coalesce(sum(rows), 0)::text FROM (
                  SELECT count(*) FILTER (WHERE tag IN (73, 85, 68, 84)) AS rows,
                    max(('x' || encode(substring(body FROM 2 FOR 8), 'hex'))::bit(64)::bigint) FILTER (WHERE tag = 66) AS commit,
                    coalesce(bool_or(convert_from(substring(body FROM 10 FOR length(body) - 10), 'UTF8') IN ($3, $3 || '\(OriginName.secondSuffix)')) FILTER (WHERE tag = 79),
                      false) AS is_ours
                  FROM (
                    SELECT tag, body, count(*) FILTER (WHERE tag = 66) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) AS transaction
                    FROM (
                      SELECT get_byte(data, 0) AS tag, ordinality AS place,
                        CASE WHEN get_byte(data, 0) IN (66, 79) THEN data END AS body
                      FROM pg_catalog.pg_logical_slot_peek_binary_changes($1::name, NULL, NULL, 'proto_version', '1', 'publication_names', $2)
                        WITH ORDINALITY
                      WHERE get_byte(data, 0) IN (66, 79, 73, 85, 68, 84)) messages) numbered
                  GROUP BY transaction) transactions
                WHERE NOT is_ours AND commit >= ($4::pg_catalog.pg_lsn - '0/0'::pg_catalog.pg_lsn)
                """,
                [
                    .text(backward.slot), .text(SQLText.identifier(backward.publication)), .text(own), .text(applied.description),
                ], parameterTypes: [OID.text, OID.text, OID.text, OID.text]
            ).firstValue
            return count.flatMap { Int($0) } ?? 0
        }
    }

    /// A worker that has just ended, or a life of ours, may still hold slot and origin for a moment.
    private func waitForRelease() async throws {
        let start = Monotonic.milliseconds()
        for side in Side.allCases {
            while try await isHeld(settings[reading: side]) {
                guard Monotonic.milliseconds() - start < releaseMilliseconds else { throw inUse(settings[reading: side]) }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    private func isHeld(_ direction: DirectionSettings) async throws -> Bool {
        try await PostgresConnection.with(direction.source) {
            try await $0.query(
                "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active", [.text(direction.slot)]
            ).rowCount > 0
        }
    }

    private func inUse(_ direction: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .slotInUse, "Replication slot \(direction.slot) on \(direction.sourceName) is in use: a worker still runs \(direction.name).",
            nextStep: "Stop it; then the same command again.")
    }

    // MARK: what changes

    /// One transaction on the other side, after which the split never was.
    private func becomeReplica(_ other: PostgresConnection) async throws -> [QualifiedName] {
        let tables = try await numberedApart(other)
        try await other.inTransaction("SET LOCAL session_replication_role = replica") {
            for table in tables {
                _ = try await other.execute("DELETE FROM \(table.sql)")
                _ = try await other.query(
                    "DELETE FROM lindero.table_copy WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                    [.text(forward.name), .text(table.schema), .text(table.name)])
            }
            try await SplitProgressStore(connection: other, direction: forward.name).end()
            try await SplitMembers(settings: settings, other: other).end(emptied: tables)
            // Comparisons were of a time in which both sides were written.
            _ = try await other.query("DELETE FROM lindero.verification WHERE direction = $1", [.text(forward.name)])
        }
        return tables
    }

    /// Tables whose own keys each side gave by itself, and those that hold them: a replica has the origin's.
    private func numberedApart(_ other: PostgresConnection) async throws -> [QualifiedName] {
        let tables = (forward.policy?.tables.values ?? [:].values).filter { $0.surrogate != nil || !$0.references.isEmpty }.map(\.table)
        let present = Set(try await CatalogReader.tables(other, matching: tables).map(\.name))
        return tables.filter(present.contains).sorted()
    }

    /// Slot, publication, record and origin of the way back.
    private func takeDown() async throws {
        try await PostgresConnection.with(settings.options(.origin)) { origin in
            // What came last from the other side must be on the origin's disk before it can't be had again.
            try await Marker.write(on: origin)
            try afterStep()
            try await PostgresConnection.with(settings.options(.other)) { other in
                try await dropSlot(other)
                try afterStep()
                _ = try await other.execute("DROP PUBLICATION IF EXISTS \(SQLText.identifier(backward.publication))")
            }
            try afterStep()
            try await ProgressOrigin(connection: origin, direction: backward.name).drop()
            try afterStep()
            try await DirectionRecord.remove(backward.name, from: origin)
        }
    }

    private func dropSlot(_ other: PostgresConnection) async throws {
        let start = Monotonic.milliseconds()
        while true {
            do {
                _ = try await other.query(
                    "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                    [.text(backward.slot)])
                return
            } catch {
                guard error.isObjectInUse else { throw error }
                guard Monotonic.milliseconds() - start < releaseMilliseconds else { throw inUse(backward) }
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }
}
