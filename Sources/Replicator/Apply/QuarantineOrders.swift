import PostgresClient
import ReplicationCore

/// Changes of the source that the target refused once, and that are to be set aside when they come again.
struct QuarantineOrders: Sendable {
    struct Reason: Sendable {
        var sqlState: String?
        /// Without values.
        var text: String
    }

    private struct Place: Hashable {
        var commitLSN: LSN
        var position: Int
    }

    private var reasons: [Place: Reason] = [:]
    /// Tells that a change is set aside.
    var tell: @Sendable (FailedChange, Reason) -> Void = { _, _ in }

    /// The change that an error is about, and why it may be set aside; `nil` for what has to stop the direction.
    static func order(for error: any Error, _ settings: DirectionSettings) -> (change: FailedChange, reason: Reason)? {
        let (change, reason): (FailedChange?, Reason)
        switch error {
        case ApplyError.missingRow(let failed):
            (change, reason) = (failed, Reason(text: "no row was found on \(settings.targetName)"))
        case ApplyError.incompleteRow(let failed):
            (change, reason) = (failed, Reason(text: "a value was not sent"))
        case ApplyError.refused(let failed, let cause) where cause.isOfRow:
            (change, reason) = (failed, Reason(sqlState: cause.sqlState?.rawValue, text: "\(cause)"))
        default:
            return nil
        }
        guard let change, change.kind != .truncate, settings.quarantines(change.table) else { return nil }
        return (change, reason)
    }

    /// Notes a refused change; false when it was noted before, so that setting it aside did not help.
    mutating func add(_ change: FailedChange, because reason: Reason) -> Bool {
        reasons.updateValue(reason, forKey: Place(commitLSN: change.commitLSN, position: change.position)) == nil
    }

    /// How many changes of a source transaction were noted.
    func count(of commitLSN: LSN) -> Int { reasons.keys.count { $0.commitLSN == commitLSN } }

    /// Whether any of a source transaction was noted.
    func holds(_ commitLSN: LSN) -> Bool { reasons.keys.contains { $0.commitLSN == commitLSN } }

    /// Forgets what lies behind the progress: it will not come again.
    mutating func forget(upTo durableLSN: LSN) {
        reasons = reasons.filter { $0.key.commitLSN >= durableLSN }
    }

    /// Why the change at `index` of its chunk is to be set aside; `nil` for one that is to be applied.
    subscript(_ span: TransactionSpan, _ index: Int) -> Reason? {
        if reasons.isEmpty { return nil }
        return reasons[Place(commitLSN: span.commitLSN, position: span.position(of: index))]
    }
}

extension StepBuilder {
    /// Adds the change to the quarantine instead of its table.
    mutating func setAside(
        _ index: Int, in span: TransactionSpan, chunk: ChangeChunk, direction: String,
        because reason: QuarantineOrders.Reason, to batch: inout StepBatch
    ) {
        let change = chunk.changes[index]
        guard let relation = chunk.relations[change.relation],
            let bytes = PGOutputEncoder.change(change, relation: relation.id, arena: chunk.arena)
        else { return }
        let position = span.position(of: index)
        let parameters: [PostgresParameter] = [
            .text(direction), .text(relation.name.schema), .text(relation.name.name), .text("\(change.kind)"),
            .text("\(span.xid)"), .text("\(span.commitLSN)"),
            .binary(bigEndian(UInt64(bitPattern: span.commitTime.microseconds))), .text("\(position)"),
            reason.sqlState.map { .text($0) } ?? .null, .text(reason.text),
            .binary(PGOutputEncoder.relation(relation)), .binary(bytes),
        ]
        batch.add(
            .query(sql: Self.quarantineSQL, parameters: parameters, parameterTypes: Self.quarantineTypes),
            sizeBytes: bytes.count + 512, rows: 1,
            change: FailedChange(table: relation.name, kind: change.kind, span: span, position: position))
        counters.quarantined += 1
    }

    /// What waits of these tables waits in vain: the source has emptied them since.
    mutating func noteEmptied(_ tables: [QualifiedName], _ span: TransactionSpan, _ position: Int, _ batch: inout StepBatch) {
        for table in tables {
            batch.add(
                .query(
                    sql: """
                        INSERT INTO lindero.table_emptied (direction, schema_name, table_name, commit_lsn, position)
                        VALUES ($1, $2, $3, $4::pg_lsn, $5::bigint) ON CONFLICT (direction, schema_name, table_name)
                        DO UPDATE SET commit_lsn = EXCLUDED.commit_lsn, position = EXCLUDED.position
                        """,
                    parameters: [
                        .text(plans.settings.name), .text(table.schema), .text(table.name), .text("\(span.commitLSN)"), .text("\(position)"),
                    ],
                    parameterTypes: [UInt32](repeating: OID.text, count: 5)),
                sizeBytes: 512, rows: nil, change: nil)
        }
    }

    private static let quarantineSQL = """
        INSERT INTO lindero.quarantine (direction, schema_name, table_name, operation, source_xid, commit_lsn,
          commit_time, position, sqlstate, reason, relation, change)
        VALUES ($1, $2, $3, $4, $5::bigint, $6::pg_lsn, $7, $8::bigint, $9, $10, $11, $12)
        """
    private static let quarantineTypes =
        [UInt32](repeating: OID.text, count: 6) + [OID.timestamptz] + [UInt32](repeating: OID.text, count: 3)
        + [OID.bytea, OID.bytea]
}
