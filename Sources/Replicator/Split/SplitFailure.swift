import PostgresClient
import ReplicationCore

/// What stopped a split, in words for the person who has to act.
struct SplitFailure {
    let settings: SplitSettings
    /// Whose stream was being read or carried out, where that is known.
    var side: Side?

    private var direction: DirectionSettings? { side.map { settings[reading: $0] } }
    private var target: String { direction?.targetName ?? "the side that it arrives at" }
    /// What a message begins with.
    private var stopped: String { direction.map { "\($0.name) stopped: " } ?? "" }

    /// Past what can't be carried across.
    private var goOnAfter: String {
        let name = direction?.sourceName ?? "NAME"
        return "`lindero slot renew \(name) --give-up` goes on after it, without all that \(name) has written since: it says what that leaves."
    }

    func words(_ error: any Error) -> any Error {
        switch error {
        case SplitError.truncated(let table):
            return ReplicationFailure(
                .truncated,
                "\(stopped)\(table) was truncated\(direction.map { " on \($0.sourceName)" } ?? ""), which names no rows and can't be carried across. "
                    + "Nothing after it was applied.",
                nextStep: "Decide which rows are to stay: truncate it on the other side, too, or let `lindero verify --repair` bring them back. "
                    + goOnAfter)
        case SplitError.needsFullIdentity(let table):
            return untold(table, lacking: [])
        case let error as SplitError:
            return ReplicationFailure(
                .splitTable, "\(error)", nextStep: "Run `lindero check`, then `lindero run`; it goes on where it stopped.",
                isBlocker: true)
        case let mismatch as SchemaMismatch where mismatch.problems.allSatisfy(\.isIdentityAlways):
            let sql = mismatch.problems.map { MendingSQL.statement(for: $0, table: mismatch.table, source: nil) }
            return ReplicationFailure(
                .schemaDiffers, "\(mismatch)",
                nextStep: "Run \(sql.joined(separator: " ")) on the database that `lindero check` names, then `lindero run`; it goes on at "
                    + "that transaction.", isBlocker: true)
        case let mismatch as SchemaMismatch where mismatch.problems.contains(where: \.isTypeDiffers):
            return ReplicationFailure(
                .schemaDiffers, "\(mismatch)",
                nextStep: "Give the column one type on both sides, then `lindero run`; it goes on at that transaction. Where it has, values "
                    + "of the former type are on their way: give it that one again on the side that they arrive at, let the worker apply "
                    + "them, and alter it then.", isBlocker: true)
        case let mismatch as SchemaMismatch where mismatch.isAnotherTable:
            return formerTable(mismatch)
        case let mismatch as SchemaMismatch:
            return ReplicationFailure(
                .schemaDiffers, "\(mismatch)",
                nextStep: "Make the tables of both sides alike and give every column an owner in lindero.yaml, then `lindero run`; it "
                    + "goes on at that transaction.", isBlocker: true)
        case ApplyError.refused(let change, let cause):
            let what = change.map { "\($0)" } ?? "a transaction"
            return ReplicationFailure(
                .changeRefused, "\(stopped)\(target) \(cause.kind) \(what): \(cause). Nothing of its transaction was applied.",
                nextStep: cause.advice(row: "Remove what stands in its way on \(target)", on: direction?.targetName)
                    + ", then `lindero run`; it goes on at that transaction.")
        case ApplyError.missingRow(let change):
            return ReplicationFailure(
                .rowMissing,
                "\(stopped)\(change.map { "\($0)" } ?? "a change") found no row on \(target). Nothing of its transaction was applied.",
                nextStep: "Restore the row there, then `lindero run`; it goes on at that transaction. Or set `replication: { missing_row: count }`: "
                    + "such changes are counted and passed, and `lindero verify --repair` beside the worker brings the rows.")
        case ProgressError.noRow:
            return ReplicationFailure(
                .progressLost, "A direction has no row in lindero.direction any more, or one with newer progress: somebody changed it.",
                nextStep: "Restore the row from a backup. If there is none: \(settings.name(.other)) has what nobody else has; "
                    + settings[reading: .other].withOtherSource, isBlocker: true)
        case SplitOverflow.transaction(let lsn):
            return tooLarge(
                "The transaction that committed at \(lsn) is larger than what may wait in memory, and it has tables with "
                    + "references, which can't be applied in parts.")
        case SplitOverflow.history(let side):
            return tooLarge(
                "\(settings.name(side)) has written so much that \(settings.name(side.opposite)) has not seen that not even its "
                    + "index fits in memory.")
        case let error as SpillError:
            return ReplicationFailure(
                .spillUnusable, "What can't be kept in memory can't be kept in files either: \(error).",
                nextStep: "Set `replication.spill_dir` to a folder that the worker's user owns and nobody else may write to, then "
                    + "`lindero run`. Nothing is lost.", isBlocker: true)
        case is SplitAltered:
            return ReplicationFailure(
                .schemaDiffers, "Tables were altered again and again while changes of theirs were applied. Nothing of these was applied.",
                nextStep: "Wait until the migration there has ended, then `lindero run`; it goes on where it stopped.")
        case is SplitChanged, is SplitTouched:
            return ReplicationFailure(
                .changeRefused, "Rows that were held changed all the same, again and again: a trigger or a rule may write them.",
                nextStep: "Look for triggers that fire for replicas (ENABLE REPLICA or ALWAYS), then `lindero run`.")
        default:
            return error
        }
    }

    /// The present one is the split's, or the start had said so.
    private func formerTable(_ mismatch: SchemaMismatch) -> ReplicationFailure {
        var same = ""
        if let side, case .anotherTable(let oid)? = mismatch.problems.first {
            let forward = settings[reading: .origin]
            let sql = SplitNameFailure.noting(oid, mismatch.table, side, forward, isPresent: false)
            same = "If it stood for that one, made anew since: run on \(forward.targetName): \(sql) Then `lindero run`. Else: "
        }
        return ReplicationFailure(
            .tableRenamed,
            "\(stopped)changes wait in the stream that another table got while it was called \(mismatch.table). Nothing of them was applied.",
            nextStep: same + goOnAfter, isBlocker: true)
    }

    private func tooLarge(_ message: String) -> ReplicationFailure {
        ReplicationFailure(
            .memoryLimit, message,
            nextStep: "Raise `replication: { memory_limit: … }` (it is \(PlainText.bytes(settings.stopBytes))), then `lindero run`; it "
                + "goes on where it stopped.", isBlocker: true)
    }

    /// The change is in the log as it is: no setting brings its old row back.
    func untold(_ table: QualifiedName, lacking: [String]) -> ReplicationFailure {
        ReplicationFailure(
            .splitTable,
            "A change of \(table) does not carry the old row, and what it wrote can't be told from what was there. Nothing after it "
                + "was applied."
                + (lacking.isEmpty ? "" : " Without REPLICA IDENTITY FULL are still, \(lacking.joined(separator: " "))"),
            nextStep: "If a column of it, no reference, has only just become shared: with its owner back in lindero.yaml, `lindero run` lets the change "
                + "pass. It can be shared again when REPLICA IDENTITY is FULL and `lindero lag` shows nothing behind that; `column_left` says then "
                + "what to make alike. Else: set REPLICA IDENTITY FULL on the table and on each partition (`lindero check` names them; new partitions need it "
                + "when they are made). What is in the log already stays without. " + goOnAfter, isBlocker: true)
    }

    func inUse() -> ReplicationFailure {
        ReplicationFailure(
            .slotInUse,
            "A slot of the split (\(settings[reading: .origin].slot), \(settings[reading: .other].slot)), or an origin, is in use "
                + "by another session, probably another worker.",
            nextStep: "Run `lindero status` to see it; stop the other worker, then run `lindero run` again.", isBlocker: true)
    }
}

extension SchemaMismatch {
    /// Whether a table may have another name.
    var isOfNames: Bool { isAnotherTable || problems.contains { if case .missingTable = $0 { true } else { false } } }

    var isAnotherTable: Bool {
        problems.contains { if case .anotherTable = $0 { true } else { false } }
    }
}

extension SchemaMismatch.Problem {
    fileprivate var isIdentityAlways: Bool { if case .identityAlways = self { true } else { false } }
    fileprivate var isTypeDiffers: Bool { if case .typeDiffers = self { true } else { false } }
}
