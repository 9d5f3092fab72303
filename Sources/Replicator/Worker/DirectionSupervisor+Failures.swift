import PostgresClient
import ReplicationCore

/// What stopped a direction, in words for the person who has to act.
extension DirectionSupervisor {
    private static func words(_ change: FailedChange?) -> String { change.map { "\($0)" } ?? "a change" }

    static func missingRow(_ change: FailedChange?, _ settings: DirectionSettings) -> ReplicationFailure {
        let isInsert = change?.kind == .insert
        let what = isInsert ? "made no row on \(settings.targetName): a trigger or rule there, which fires for replicated rows, swallowed it" : "found no row on \(settings.targetName)"
        return ReplicationFailure(
            .rowMissing,
            "\(settings.name) stopped: \(words(change)) \(what). Nothing of that transaction was applied.",
            nextStep: (isInsert ? "Disable or mend that trigger or rule" : "Restore the row") + " on \(settings.targetName) and run `lindero run` again; it goes on at that "
                + "transaction. `on_error: quarantine` for the table sets the change aside, and `lindero quarantine show` says which row "
                + "it is; `replication: { missing_row: count }` counts such changes and passes them.")
    }

    static func refused(
        _ change: FailedChange?, _ cause: PostgresError, _ settings: DirectionSettings
    ) -> ReplicationFailure {
        ReplicationFailure(
            .changeRefused,
            "\(settings.name) stopped: \(settings.targetName) \(cause.kind) \(words(change)): \(cause). Nothing of that transaction was applied.",
            nextStep: cause.advice(row: "Mend the row or the constraint on \(settings.targetName)", on: settings.targetName)
                + " and run `lindero run` again; it goes on at that transaction.")
    }

    static func incompleteRow(_ change: FailedChange, _ settings: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .rowIncomplete,
            "\(settings.name) stopped: \(change) is of a row that came under the row filter of \(settings.publication), and "
                + "\(settings.sourceName) did not send its large values. Nothing of that transaction was applied.",
            nextStep: "Set `on_error: quarantine` for \(change.table) in lindero.yaml, run `lindero run` again and insert "
                + "the row on \(settings.targetName) by hand. ALTER TABLE \(change.table.sql) REPLICA IDENTITY FULL on "
                + "\(settings.sourceName) spares the next one.")
    }

    static func preparedGone(_ xid: UInt32, _ commitLSN: LSN, _ settings: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .preparedGone,
            "\(settings.name) stopped: transaction \(xid) of \(settings.sourceName) committed at \(commitLSN) and was prepared on "
                + "\(settings.targetName) before, but is not there any more: somebody ended it.",
            nextStep: "If its changes are to be there, restore \(settings.targetName) from a backup. " + settings.copyAnew,
            isBlocker: true)
    }

    static func spillUnusable(_ error: SpillError, _ settings: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .spillUnusable,
            "\(settings.name) cannot keep transactions that still run on \(settings.sourceName): \(error).",
            nextStep: "Set `replication.spill_dir` to a folder that the worker's user owns and nobody else may write to, or "
                + "`streaming: off`; then `lindero run`. Nothing is lost.", isBlocker: true)
    }

    static func publicationMissed(_ settings: DirectionSettings, after lsn: LSN) -> ReplicationFailure {
        ReplicationFailure(
            .publicationMissing,
            "Publication \(settings.publication) was not there on \(settings.sourceName) when changes after \(lsn) were "
                + "made, so PostgreSQL cannot decode them. \(settings.targetName) has everything before, and nothing of them.",
            nextStep: settings.copyAnew, isBlocker: true)
    }

    /// - Parameter isReached: whether the second database can be asked; one that can't may be lost.
    static func splitHasBegun(_ settings: DirectionSettings, isReached: Bool = true) -> ReplicationFailure {
        ReplicationFailure(
            .splitBegun,
            "\(settings.name) is one direction of a split that has begun: a replica's worker would apply what the split has to decide, and to "
                + "take the replica down would lose what \(settings.targetName) alone has.",
            nextStep: "Put `backend: split` back into lindero.yaml, then `lindero run`. With that in the file `lindero rollback --execute` makes it a "
                + "replica again." + (isReached ? "" : " \(settings.targetName) can't be reached: if it is lost for good, "
                    + "`lindero rollback --lost \(settings.targetName)` goes on without it."), isBlocker: true)
    }

    static func slotInUse(_ settings: DirectionSettings) -> ReplicationFailure {
        ReplicationFailure(
            .slotInUse,
            "Replication slot \(settings.slot) on \(settings.sourceName)"
                + (settings.backend == .shared ? " " : " (or its origin on \(settings.targetName)) ")
                + "is in use by another session, probably another worker.",
            nextStep: "Run `lindero status` to see it; stop the other worker, then run `lindero run` again.",
            isBlocker: true)
    }
}
