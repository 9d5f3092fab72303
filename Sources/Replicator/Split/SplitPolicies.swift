import PostgresClient
import ReplicationCore

/// The policies that a split's shared columns have had, and where in both sides' logs each began.
///
/// A column that one side owns from now on stays shared, for the worker, until what both wrote before is carried: its owner is
/// preferred meanwhile.
///
/// Noted by the one worker that holds both sides' origins, before it decides anything: what an earlier one has decided lies before.
struct SplitPolicies {
    typealias Rules = [QualifiedName: [String: [FormerRule]]]

    /// By what to judge until no write from before is on its way.
    struct Former {
        /// The rules that columns had before the present one, the oldest first.
        var rules: Rules = [:]
        /// Columns that have an owner and are shared still, with the rule that stands for it.
        var shared: [ColumnName: SharedColumnRule] = [:]
    }

    let settings: SplitSettings
    /// Where it is kept.
    let other: PostgresConnection

    /// One policy of a column, from its beginning on.
    private struct Term {
        /// `nil` where it was no shared column.
        var rule: SharedColumnRule?
        var startLSN: SidePair<LSN>
    }

    /// What stands for no policy.
    private static let none = "none"

    private var direction: String { settings[reading: .origin].name }
    private var tables: [QualifiedName: TableOwnership] { settings[reading: .origin].policy?.tables ?? [:] }

    private struct Declared {
        var column: ColumnName
        var rule: SharedColumnRule
        var isOwned: Bool
    }

    /// Shared columns as declared, and what was one and has an owner. While services move, that has a policy of its own.
    private func declared(_ known: [ColumnName: [Term]]) -> [Declared] {
        let isInTransition = settings[reading: .origin].policy?.isInTransition ?? false
        return tables.values.flatMap { ownership in
            ownership.columns.keys.filter { !ownership.match.contains($0) }.compactMap { name in
                let column = ColumnName(table: ownership.table, column: name)
                let owner = ownership.owner(of: name)
                if case .shared(let rule)? = ownership.columns[name], owner == nil { return Declared(column: column, rule: rule, isOwned: false) }
                guard let owner, !isInTransition, !ownership.privateColumns.contains(name), known[column]?.last?.rule != nil else { return nil }
                return Declared(column: column, rule: SharedColumnRule(policy: .prefer, side: owner), isOwned: true)
            }
        }
    }

    /// Noted columns that are neither: private, of no table any more, or gone.
    private func left(_ known: [ColumnName: [Term]], _ declared: [Declared]) -> Set<ColumnName> {
        Set(known.keys).subtracting(declared.map(\.column)).filter { column in
            // While services move, an owned one waits.
            guard let ownership = tables[column.table], ownership.columns[column.column] != nil else { return true }
            return ownership.privateColumns.contains(column.column) || ownership.owner(of: column.column) == nil
        }
    }

    /// Refuses what can't be changed while the split lives; alters nothing.
    func require() async throws {
        // `check` may look at a database that an older Lindero brought into the split.
        guard try await other.query("SELECT 1 WHERE pg_catalog.to_regclass('lindero.split_policy') IS NOT NULL").rowCount > 0 else {
            return
        }
        let progress = try await SplitProgressStore(connection: other, direction: direction).read()
        try require(try await read().filter { !Self.hasLeft($0.value, progress) })
    }

    /// Whether nothing is on its way from the time when it was a shared column: the other side has what the origin wrote then, and the
    /// origin had what the other side wrote.
    private static func hasLeft(_ terms: [Term], _ progress: SplitProgress?) -> Bool {
        guard let last = terms.last, last.rule == nil, let progress else { return false }
        return progress.appliedLSN >= last.startLSN[.origin] && progress.context.lsn >= last.startLSN[.other]
    }

    /// A counter adds what each side has added: of writes on their way that were none, one would be added, and the other not. And
    /// what a reference was may be a number that no row has any more when it would have to be written back.
    private func require(_ known: [ColumnName: [Term]]) throws {
        let late = declared(known).filter { new in
            guard let last = known[new.column]?.last(where: { $0.rule != nil }), last.rule != new.rule else { return false }
            return new.rule.policy == .delta || tables[new.column.table]?.references[new.column.column] != nil
        }
        guard !late.isEmpty else { return }
        let list = late.map { new in
            "\(new.column.table).\(new.column.column) "
                + (new.rule.policy == .delta
                    ? "is to become a counter (`delta`)" : "is a reference, and is to get another \(new.isOwned ? "owner" : "policy")")
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
    /// - Throws: `ReplicationFailure` for what `require` refuses.
    func follow(_ sides: SidePair<PostgresConnection>, progress: SidePair<SplitProgress>) async throws -> Former {
        var known = try await read()
        for (column, terms) in known where Self.hasLeft(terms, progress[.origin]) {
            for term in terms { try await forget(column, term.startLSN) }
            known[column] = nil
        }
        try require(known)
        let declared = declared(known)
        try await noteChanges(declared, sides, &known)
        var former = Former()
        for new in declared {
            guard var terms = known[new.column] else { continue }
            while terms.count > 1, Self.isPassed(terms[1].startLSN, progress) {
                try await forget(new.column, terms.removeFirst().startLSN)
            }
            if new.isOwned, terms.count == 1 {
                try await forget(new.column, terms[0].startLSN)
                continue
            }
            if new.isOwned { former.shared[new.column] = new.rule }
            let shared = terms.compactMap { term in term.rule.map { (rule: $0, startLSN: term.startLSN) } }
            former.rules[new.column.table, default: [:]][new.column.column] = zip(shared, shared.dropFirst()).map { term, next in
                FormerRule(
                    rule: term.rule,
                    endLSN: Dictionary(uniqueKeysWithValues: Side.allCases.map { (settings.name($0), next.startLSN[$0]) }))
            }
        }
        return former
    }

    private func noteChanges(
        _ declared: [Declared], _ sides: SidePair<PostgresConnection>, _ known: inout [ColumnName: [Term]]
    ) async throws {
        var changed: [(column: ColumnName, rule: SharedColumnRule?)] = []
        for new in declared where known[new.column]?.last?.rule != new.rule { changed.append((new.column, new.rule)) }
        for column in left(known, declared) where known[column]?.last?.rule != nil { changed.append((column, nil)) }
        if changed.isEmpty { return }
        var ends = SidePair { _ in LSN.zero }
        for side in Side.allCases { ends[side] = try await end(of: sides[side]) }
        for (column, rule) in changed {
            // What there is no note of was never another's, as far as is known.
            let start = known[column] == nil ? SidePair { _ in LSN.zero } : ends
            known[column, default: []].append(Term(rule: rule, startLSN: start))
            try await note(column, rule, start)
        }
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
            let policy = row[3].flatMap { SharedColumnRule.Policy(rawValue: $0) }
            guard policy != nil || row[3] == Self.none, let origin = row[5].flatMap({ LSN($0) }), let other = row[6].flatMap({ LSN($0) })
            else { continue }
            let column = ColumnName(table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), column: row[2] ?? "")
            known[column, default: []].append(
                Term(
                    rule: policy.map { SharedColumnRule(policy: $0, side: row[4]) }, startLSN: SidePair(origin: origin, other: other)))
        }
        return known
    }

    private func place(_ column: ColumnName) -> [PostgresParameter] {
        [direction, column.table.schema, column.table.name, column.column].map { .text($0) }
    }

    private func place(_ column: ColumnName, _ start: SidePair<LSN>) -> [PostgresParameter] {
        place(column) + [.text(start[.origin].description), .text(start[.other].description)]
    }

    private func note(_ column: ColumnName, _ rule: SharedColumnRule?, _ start: SidePair<LSN>) async throws {
        _ = try await other.query(
            """
            INSERT INTO lindero.split_policy (direction, schema_name, table_name, column_name, origin_lsn, other_lsn, policy, side)
            VALUES ($1, $2, $3, $4, $5::text::pg_catalog.pg_lsn, $6::text::pg_catalog.pg_lsn, $7, $8)
            ON CONFLICT (direction, schema_name, table_name, column_name, origin_lsn, other_lsn) DO UPDATE SET policy = EXCLUDED.policy,
              side = EXCLUDED.side
            """, place(column, start) + [.text(rule?.policy.rawValue ?? Self.none), rule?.side.map { .text($0) } ?? .null])
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
