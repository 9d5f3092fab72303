import Logging
import PostgresClient
import ReplicationCore

/// Decides whether a stream brings prepared transactions when they are prepared.
///
/// It may not while a table's copy is newer than the stream: of a transaction that was prepared before the copy nobody
/// knows yet whether the copy holds it. Until then they come at their commit. Once begun, the slot stays that way.
struct TwoPhaseStart {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection

    /// - Parameter newestCopy: where the last copy of a table ended.
    /// - Returns: whether it does; `nil` when it is to begin once the stream has passed the newest copy.
    func decide(_ slot: SourceCheck.Slot, startLSN: LSN, newestCopy: LSN) async throws -> Bool? {
        guard settings.replication.twoPhase else {
            if slot.isTwoPhase { throw unwanted() }
            return false
        }
        guard await source.serverVersion >= 150_000 else {
            throw ReplicationFailure(
                .unsupportedVersion, "`two_phase: true` needs PostgreSQL 15 or newer on \(settings.sourceName).",
                nextStep: "Take `two_phase` out of lindero.yaml, then `lindero run`.", isBlocker: true)
        }
        guard try await target.query("SHOW max_prepared_transactions").firstValue != "0" else {
            throw ReplicationFailure(
                .preparedDisabled,
                "\(settings.targetName) allows no prepared transactions, and `two_phase: true` needs as many as "
                    + "\(settings.sourceName) may have.",
                nextStep: "Run on \(settings.targetName): ALTER SYSTEM SET max_prepared_transactions = 20; and restart the "
                    + "server. Then `lindero run`.", isBlocker: true)
        }
        if newestCopy <= startLSN { return true }
        if slot.isTwoPhase { throw Self.copyTooLate(settings, "A table was copied after the stream's place") }
        return nil
    }

    /// Refuses a copy for a direction whose slot sends transactions when they are prepared.
    static func requireNoCopy(_ settings: DirectionSettings, source: PostgresConnection, of tables: [QualifiedName]) async throws {
        let isTwoPhase = try await source.query(
            "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND two_phase", [.text(settings.slot)])
        guard isTwoPhase.rowCount > 0 else { return }
        throw copyTooLate(settings, "\(tables.map { "\($0)" }.joined(separator: ", ")) would have to be copied")
    }

    private static func copyTooLate(_ settings: DirectionSettings, _ what: String) -> ReplicationFailure {
        ReplicationFailure(
            .slotTwoPhase,
            "\(what), and replication slot \(settings.slot) on \(settings.sourceName) sends transactions when they are prepared: "
                + "whether the copy holds one that was prepared before it, nobody could tell.",
            nextStep: "Leave the table out of `tables:`. Or: " + settings.copyAnew, isBlocker: true)
    }

    private func unwanted() -> ReplicationFailure {
        ReplicationFailure(
            .slotTwoPhase,
            "Replication slot \(settings.slot) on \(settings.sourceName) sends transactions when they are prepared, and "
                + "lindero.yaml does not ask for that.",
            nextStep: "Set `replication: { two_phase: true }`. On PostgreSQL 18 the slot can be changed instead, once no "
                + "transaction is prepared: ALTER_REPLICATION_SLOT \(settings.slot) (TWO_PHASE false).", isBlocker: true)
    }
}

/// Waits until a stream that had to begin without prepared transactions may begin again with them.
struct TwoPhaseWait {
    static let pollMilliseconds = 200

    struct Due: Error {}

    let state: DirectionState
    let newestCopy: LSN

    /// - Throws: `Due` when it is so; returns never.
    func run() async throws {
        while state.durableLSN < newestCopy { try await Task.sleep(for: .milliseconds(Self.pollMilliseconds)) }
        throw Due()
    }
}
