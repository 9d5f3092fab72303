import PostgresClient
import ReplicationCore

/// Whether a change in quarantine is still the newest that is known of its row: the stream went on without it.
///
/// The change's row in `lindero.quarantine` and the rows of its transaction were written by one transaction of the target, in the
/// source's order, and each change that was set aside by a subtransaction of its own. So a row that a later one has written is
/// newer; of changes that an older Lindero set aside, also one that the same transaction has written with a later command. One
/// that the retry of an earlier change has written is not: that is what retrying in order does.
struct QuarantineAge {
    let store: QuarantineStore
    let kept: KeptChange
    private var plan: RelationPlan { kept.plan }

    init(store: QuarantineStore, kept: KeptChange) {
        self.store = store
        self.kept = kept
    }

    /// - Parameter stored: the change as it is in quarantine, whose key is compared with those of others there.
    /// - Throws: `QuarantineError.superseded`.
    func requireNewest(_ stored: QuarantineStore.Stored, id: Int64) async throws {
        try await requireOlderTable(id)
        // Found by all its values, the row has not changed.
        guard case .key(let key) = plan.identity else { return }
        if kept.row.shape.kind != .insert { try await requireOlderRow(id) }
        try await requireUndecided(stored, key: key, id: id)
    }

    /// The whole table may be newer than the change.
    private func requireOlderTable(_ id: Int64) async throws {
        // Before the worker that fills it there was no such record.
        guard try await store.connection.hasLindero("table_emptied") else { return }
        let why = try await store.connection.query(
            """
            SELECT CASE WHEN (e.commit_lsn, e.position) > (q.commit_lsn, q.position)
                        THEN 'the source has emptied its table since (TRUNCATE, at ' || e.commit_lsn || ')'
                        WHEN c.snapshot_lsn > q.commit_lsn THEN 'its table was copied anew since' END
            FROM lindero.quarantine q LEFT JOIN lindero.table_emptied e USING (direction, schema_name, table_name)
            LEFT JOIN lindero.table_copy c USING (direction, schema_name, table_name) WHERE q.id = $1::text::bigint
            """, [.text("\(id)")]
        ).firstValue
        if let why { throw QuarantineError.superseded(id, why) }
    }

    /// Holds the row until the change is applied.
    private func requireOlderRow(_ id: Int64) async throws {
        let compared = kept.row.shape.compared
        let condition = compared.enumerated().map { place, index in
            "t.\(SQLText.identifier(plan.columns[index].name)) \(plan.columns[index].equality) $\(place + 2)"
        }
        let found = kept.row.cells.suffix(compared.count)
        let isNewer = try await store.connection.query(
            """
            SELECT (pg_catalog.age(t.xmin) < pg_catalog.age(q.xmin)
                OR t.xmin = q.xmin AND t.cmin::text::bigint > q.cmin::text::bigint)
              AND NOT EXISTS (SELECT FROM lindero.quarantine e
                WHERE e.id < q.id AND e.direction = q.direction AND e.state = 'applied' AND e.xmin = t.xmin)
            FROM \(plan.onlyTable) t, lindero.quarantine q
            WHERE q.id = $1::bigint AND \(condition.joined(separator: " AND ")) FOR UPDATE OF t
            """, [.text("\(id)")] + found.map { kept.arena.parameter($0) },
            parameterTypes: [OID.text] + compared.map { plan.columns[$0].typeOID }
        ).rows.contains { $0[0] == "t" }
        if isNewer { throw QuarantineError.superseded(id, "its row was written after the change was set aside") }
    }

    /// A decision about a later change of the row stands: one that was applied is newer, one that was given up was to stay away.
    private func requireUndecided(_ stored: QuarantineStore.Stored, key: [Int], id: Int64) async throws {
        let later = try await store.connection.query(
            """
            SELECT l.id::text, l.state FROM lindero.quarantine l, lindero.quarantine q
            WHERE q.id = $1::text::bigint AND l.id > q.id AND l.state <> 'open' AND l.direction = q.direction
              AND l.schema_name = q.schema_name AND l.table_name = q.table_name ORDER BY l.id
            """, [.text("\(id)")]
        ).rows
        let names = key.map { plan.columns[$0].name }
        let own = Self.keys(stored, names)
        for row in later {
            guard let other = row[0].flatMap({ Int64($0) }), let state = row[1] else { continue }
            let keys = Self.keys(try await store.stored(other), names)
            guard keys.contains(where: { key in own.contains { Self.mayBeEqual($0, key) } }) else { continue }
            throw QuarantineError.superseded(id, "change \(other) of the same row came after it and is \(state) already")
        }
    }

    private struct Value {
        var typeOID: UInt32
        var kind: Cell.Kind
        var bytes: [UInt8]
    }

    /// The keys that a change names: the old one and the new one.
    private static func keys(_ stored: QuarantineStore.Stored, _ names: [String]) -> [[Value]] {
        var keys: [[Value]] = []
        for tuple in [stored.change.old, stored.change.new] where !tuple.cells.isEmpty {
            keys.append(
                names.compactMap { name in
                    guard let index = stored.relation.columns.firstIndex(where: { $0.name == name }), index < tuple.cells.count
                    else { return nil }
                    let cell = stored.arena.cells[tuple.firstCell + index]
                    return Value(
                        typeOID: stored.relation.columns[index].typeOID, kind: cell.kind,
                        bytes: Array(stored.arena.bytes[cell.range]))
                })
        }
        return keys
    }

    /// Two that came in different forms or types, or do not say, are taken for the same: to ask once too often harms nothing.
    private static func mayBeEqual(_ left: [Value], _ right: [Value]) -> Bool {
        zip(left, right).allSatisfy { $0.kind != $1.kind || $0.typeOID != $1.typeOID || $0.kind == .unchanged || $0.bytes == $1.bytes }
    }
}
