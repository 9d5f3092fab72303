import PostgresClient
import ReplicationCore

/// The policies that a split's shared columns have had, and where in both sides' logs each began.
///
/// Noted by the one worker that holds both sides' origins, before it decides anything: what an earlier one has decided lies before.
struct SplitPolicies {
    typealias Rules = [QualifiedName: [String: [FormerRule]]]

    let settings: SplitSettings
    /// Where it is kept.
    let other: PostgresConnection

    /// One policy of a column, from its beginning on.
    private struct Term {
        var rule: SharedColumnRule
        var startLSN: SidePair<LSN>
    }

    private var direction: String { settings[reading: .origin].name }
    private var tables: [QualifiedName: TableOwnership] { settings[reading: .origin].policy?.tables ?? [:] }

    /// Shared columns as declared; while services move, what is owned has a policy of its own for that time.
    private var declared: [(column: ColumnName, rule: SharedColumnRule)] {
        tables.values.flatMap { ownership in
            ownership.columns.compactMap { name, column in
                guard case .shared(let rule) = column, ownership.owner(of: name) == nil, !ownership.match.contains(name) else { return nil }
                return (ColumnName(table: ownership.table, column: name), rule)
            }
        }
    }

    /// Refuses what can't be changed while the split lives; alters nothing.
    func require() async throws {
        // `check` may look at a database that an older Lindero brought into the split.
        guard try await other.query("SELECT 1 WHERE pg_catalog.to_regclass('lindero.split_policy') IS NOT NULL").rowCount > 0 else {
            return
        }
        try require(try await read())
    }

    /// A counter adds what each side has added: of writes on their way that were none, one would be added, and the other not. And
    /// what a reference was may be a number that no row has any more when it would have to be written back.
    private func require(_ known: [ColumnName: [Term]]) throws {
        let late = declared.filter { column, rule in
            guard let last = known[column]?.last, last.rule != rule else { return false }
            return rule.policy == .delta || tables[column.table]?.references[column.column] != nil
        }
        guard !late.isEmpty else { return }
        let list = late.map { column, rule in
            "\(column.table).\(column.column) " + (rule.policy == .delta ? "is to become a counter (`delta`)" : "is a reference, and is to get another policy")
        }.sorted().joined(separator: ", ")
        throw ReplicationFailure(
            .splitPolicy,
            "\(list), while the split runs: of two writes that met, one of which was made before, the sides would not make the same.",
            nextStep: "Give it the policy that it had, then `lindero run`. To have the other one, `lindero rollback --execute` and then, with it in "
                + "lindero.yaml, `lindero advance --to split --execute`: the split begins anew.", isBlocker: true)
    }

    /// Notes what has another policy from now on, and drops what no write that is still on its way was made under.
    ///
    /// - Parameters:
    ///   - sides: for the places in their logs.
    ///   - progress: by the side that is read.
    /// - Returns: the rules that columns had before the present one, the oldest first.
    /// - Throws: `ReplicationFailure` for what `require` refuses.
    func follow(_ sides: SidePair<PostgresConnection>, progress: SidePair<SplitProgress>) async throws -> Rules {
        var known = try await read()
        try require(known)
        let changed = declared.filter { known[$0.column]?.last?.rule != $0.rule }
        if !changed.isEmpty {
            var ends = SidePair { _ in LSN.zero }
            for side in Side.allCases { ends[side] = try await end(of: sides[side]) }
            for (column, rule) in changed {
                // What there is no note of was never another's, as far as is known.
                let start = known[column] == nil ? SidePair { _ in LSN.zero } : ends
                known[column, default: []].append(Term(rule: rule, startLSN: start))
                try await note(column, rule, start)
            }
        }
        var rules: Rules = [:]
        for (column, _) in declared {
            guard var terms = known[column] else { continue }
            while terms.count > 1, Self.isPassed(terms[1].startLSN, progress) {
                try await forget(column, terms.removeFirst().startLSN)
            }
            rules[column.table, default: [:]][column.column] = zip(terms, terms.dropFirst()).map { term, next in
                FormerRule(
                    rule: term.rule,
                    endLSN: Dictionary(uniqueKeysWithValues: Side.allCases.map { (settings.name($0), next.startLSN[$0]) }))
            }
        }
        return rules
    }

    /// Whether writes of the time before the present policies have all been carried, and are known of.
    static func arePassed(_ rules: Rules, settings: SplitSettings, progress: SidePair<SplitProgress>) -> Bool {
        rules.values.lazy.flatMap(\.values).joined().allSatisfy { former in
            isPassed(SidePair { former.endLSN[settings.name($0)] ?? .zero }, progress)
        }
    }

    /// Whether each side has what the other wrote before, and knows that the other has its own.
    private static func isPassed(_ ends: SidePair<LSN>, _ progress: SidePair<SplitProgress>) -> Bool {
        Side.allCases.allSatisfy { progress[$0].appliedLSN >= ends[$0] && progress[$0.opposite].context.lsn >= ends[$0] }
    }

    /// Every commit that anybody has been told of lies before it.
    private func end(of side: PostgresConnection) async throws -> LSN {
        let found = try await side.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").firstValue
        guard let lsn = found.flatMap({ LSN($0) }) else { throw ProgressError.noRow }
        return lsn
    }

    private func read() async throws -> [ColumnName: [Term]] {
        var known: [ColumnName: [Term]] = [:]
        for row in try await other.query(
            """
            SELECT schema_name, table_name, column_name, policy, side, origin_lsn::text, other_lsn::text FROM lindero.split_policy known
            WHERE direction = $1 ORDER BY known.origin_lsn, known.other_lsn
            """, [.text(direction)]
        ).rows {
            guard let policy = row[3].flatMap({ SharedColumnRule.Policy(rawValue: $0) }), let origin = row[5].flatMap({ LSN($0) }),
                let other = row[6].flatMap({ LSN($0) })
            else { continue }
            let column = ColumnName(table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), column: row[2] ?? "")
            known[column, default: []].append(
                Term(rule: SharedColumnRule(policy: policy, side: row[4]), startLSN: SidePair(origin: origin, other: other)))
        }
        return known
    }

    private func place(_ column: ColumnName) -> [PostgresParameter] {
        [direction, column.table.schema, column.table.name, column.column].map { .text($0) }
    }

    private func place(_ column: ColumnName, _ start: SidePair<LSN>) -> [PostgresParameter] {
        place(column) + [.text(start[.origin].description), .text(start[.other].description)]
    }

    private func note(_ column: ColumnName, _ rule: SharedColumnRule, _ start: SidePair<LSN>) async throws {
        _ = try await other.query(
            """
            INSERT INTO lindero.split_policy (direction, schema_name, table_name, column_name, origin_lsn, other_lsn, policy, side)
            VALUES ($1, $2, $3, $4, $5::text::pg_catalog.pg_lsn, $6::text::pg_catalog.pg_lsn, $7, $8)
            ON CONFLICT (direction, schema_name, table_name, column_name, origin_lsn, other_lsn) DO UPDATE SET policy = EXCLUDED.policy,
              side = EXCLUDED.side
            """, place(column, start) + [.text(rule.policy.rawValue), rule.side.map { .text($0) } ?? .null])
    }

    private func forget(_ column: ColumnName, _ start: SidePair<LSN>) async throws {
        _ = try await other.query(
            """
            DELETE FROM lindero.split_policy WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND column_name = $4
            AND origin_lsn = $5::text::pg_catalog.pg_lsn AND other_lsn = $6::text::pg_catalog.pg_lsn
            """, place(column, start))
    }

    func forget() async throws {
        _ = try await other.query("DELETE FROM lindero.split_policy WHERE direction = $1", [.text(direction)])
    }
}
