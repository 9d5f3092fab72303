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
        var state: State
        var startLSN: SidePair<LSN>
    }

    /// What a column is in a term.
    private enum State: Equatable {
        case shared(SharedColumnRule)
        /// By a side: its writes stand against the other one's from before.
        case owned(String)
        /// No column that could meet another's write.
        case left

        /// By which two writes that met are judged.
        var rule: SharedColumnRule? {
            switch self {
            case .shared(let rule): rule
            case .owned(let side): SharedColumnRule(policy: .prefer, side: side)
            case .left: nil
            }
        }

        /// As it is noted.
        var words: (policy: String, side: String?) {
            switch self {
            case .shared(let rule): (rule.policy.rawValue, rule.side)
            case .owned(let side): ("owner", side)
            case .left: ("none", nil)
            }
        }

        /// - Returns: `nil` for words of a later version.
        init?(policy: String?, side: String?) {
            switch (policy, side) {
            case ("owner", let side?): self = .owned(side)
            case ("none", _): self = .left
            default:
                guard let policy = policy.flatMap({ SharedColumnRule.Policy(rawValue: $0) }) else { return nil }
                self = .shared(SharedColumnRule(policy: policy, side: side))
            }
        }
    }

    private var direction: String { settings[reading: .origin].name }
    private var tables: [QualifiedName: TableOwnership] { settings[reading: .origin].policy?.tables ?? [:] }

    /// Whether services move: what has an owner is shared then, its owner preferred.
    private var isInTransition: Bool { settings[reading: .origin].policy?.isInTransition ?? false }

    /// Shared columns, what was one and has an owner, and what is neither any more: private, of no table, or gone.
    private func declared(_ known: [ColumnName: [Term]]) -> [ColumnName: State] {
        var declared = known.mapValues { _ in State.left }
        for ownership in tables.values {
            for name in ownership.columns.keys where !ownership.match.contains(name) && !ownership.privateColumns.contains(name) {
                let column = ColumnName(table: ownership.table, column: name)
                if let owner = ownership.owner(of: name) {
                    // While services move it meets the other side's writes: what is made of it afterwards is judged by where it began.
                    let meets = isInTransition || known[column].map { $0.last?.state != .left } ?? false
                    if meets { declared[column] = .owned(owner) }
                } else if case .shared(let rule)? = ownership.columns[name] {
                    declared[column] = .shared(rule)
                }
            }
        }
        return declared
    }

    /// Refuses what can't be changed while the split lives; alters nothing.
    func require() async throws {
        // `check` may look at a database that an older Lindero brought into the split.
        guard try await other.hasLindero("split_policy") else { return }
        let progress = try await SplitProgressStore(connection: other, direction: direction).read()
        try require(try await read().filter { !Self.hasLeft($0.value, progress) })
    }

    /// Whether nothing is on its way from the time when it was a shared column: the other side has what the origin wrote then, and the
    /// origin had what the other side wrote.
    private static func hasLeft(_ terms: [Term], _ progress: SplitProgress?) -> Bool {
        guard let last = terms.last, last.state == .left, let progress else { return false }
        return progress.appliedLSN >= last.startLSN[.origin] && progress.context.lsn >= last.startLSN[.other]
    }

    /// A counter adds what each side has added: of writes on their way that were none, one would be added, and the other not. And
    /// what a reference was may be a number that no row has any more when it would have to be written back.
    private func require(_ known: [ColumnName: [Term]]) throws {
        let late = declared(known).filter { column, state in
            guard let rule = state.rule, let last = known[column]?.last(where: { $0.state != .left }), last.state != state else { return false }
            return rule.policy == .delta || tables[column.table]?.references[column.column] != nil
        }
        guard !late.isEmpty else { return }
        let list = late.map { column, state in
            if state.rule?.policy == .delta { return "\(column.table).\(column.column) is to become a counter (`delta`)" }
            var isOwned: Bool { if case .owned = state { true } else { false } }
            return "\(column.table).\(column.column) is a reference, and is to get another \(isOwned ? "owner" : "policy")"
        }.sorted().joined(separator: ", ")
        throw ReplicationFailure(
            .splitPolicy,
            "\(list), while the split runs: of two writes that met, one of which was made before, the sides would not make the same.",
            nextStep: "Give it what it had, then `lindero run`; what has had one owner all the time can be changed once no service moves any more and "
                + "that has run so. Else, to have the other one, `lindero rollback --execute` and then, with it in "
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
        let left = known.filter { Self.hasLeft($0.value, progress[.origin]) }
        try await forget(left.flatMap { column, terms in terms.map { (column, $0) } })
        for column in left.keys { known[column] = nil }
        try require(known)
        let declared = declared(known)
        try await noteChanges(declared, sides, &known)
        var former = Former()
        var passed: [(column: ColumnName, term: Term)] = []
        for (column, state) in declared where state != .left {
            guard var terms = known[column] else { continue }
            while terms.count > 1, Self.isPassed(terms[1].startLSN, progress) {
                passed.append((column, terms.removeFirst()))
            }
            if case .owned = state, !isInTransition {
                if terms.count == 1 {
                    passed.append((column, terms[0]))
                    continue
                }
                former.shared[column] = state.rule
            }
            let judging = terms.compactMap { term in term.state.rule.map { (rule: $0, startLSN: term.startLSN) } }
            former.rules[column.table, default: [:]][column.column] = zip(judging, judging.dropFirst()).map { term, next in
                FormerRule(
                    rule: term.rule,
                    endLSN: Dictionary(uniqueKeysWithValues: Side.allCases.map { (settings.name($0), next.startLSN[$0]) }))
            }
        }
        try await forget(passed)
        return former
    }

    private func noteChanges(
        _ declared: [ColumnName: State], _ sides: SidePair<PostgresConnection>, _ known: inout [ColumnName: [Term]]
    ) async throws {
        let changed = declared.filter { known[$0.key]?.last?.state != $0.value }
        if changed.isEmpty { return }
        var ends = SidePair { _ in LSN.zero }
        for side in Side.allCases { ends[side] = try await end(of: sides[side]) }
        var notes: [(column: ColumnName, term: Term)] = []
        for (column, state) in changed {
            // What there is no note of was never another's, as far as is known.
            let term = Term(state: state, startLSN: known[column] == nil ? SidePair { _ in LSN.zero } : ends)
            known[column, default: []].append(term)
            notes.append((column, term))
        }
        try await note(notes)
    }

    /// Has columns be their owner's at once: their table's changes do not carry the old row any more, which no other column needs.
    ///
    /// - Returns: whether anything is different then.
    func giveUp(_ columns: [ColumnName]) async throws -> Bool {
        let needing = columns.filter { column in
            tables[column.table]?.columns.values.contains { if case .shared = $0 { true } else { false } } ?? true
        }
        guard !columns.isEmpty, needing.isEmpty else { return false }
        let known = try await read()
        try await forget(columns.flatMap { column in (known[column] ?? []).map { (column, $0) } })
        return true
    }

    /// Tables with columns that have got an owner, and are shared until what was written before has arrived.
    static func sharedStill(_ connection: PostgresConnection) async throws(PostgresError) -> Set<QualifiedName> {
        guard try await connection.hasLindero("split_policy") else { return [] }
        let found = try await connection.query("SELECT DISTINCT schema_name, table_name FROM lindero.split_policy WHERE policy = 'owner' AND (origin_lsn, other_lsn) <> ('0/0', '0/0')")
        return Set(found.rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") })
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
            guard let state = State(policy: row[3], side: row[4]), let origin = row[5].flatMap({ LSN($0) }),
                let other = row[6].flatMap({ LSN($0) })
            else { continue }
            let column = ColumnName(table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), column: row[2] ?? "")
            known[column, default: []].append(
                Term(state: state, startLSN: SidePair(origin: origin, other: other)))
        }
        return known
    }

    private static let given = """
        ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]),
          pg_catalog.unnest($5::text[]::pg_catalog.pg_lsn[]), pg_catalog.unnest($6::text[]::pg_catalog.pg_lsn[]))
        """

    private func places(_ terms: [(column: ColumnName, term: Term)]) -> [String] {
        [
            direction, SQLText.arrayLiteral(terms.map(\.column.table.schema)), SQLText.arrayLiteral(terms.map(\.column.table.name)),
            SQLText.arrayLiteral(terms.map(\.column.column)), SQLText.arrayLiteral(terms.map(\.term.startLSN[.origin].description)),
            SQLText.arrayLiteral(terms.map(\.term.startLSN[.other].description)),
        ]
    }

    /// In one statement: while services move that is each column.
    private func note(_ terms: [(column: ColumnName, term: Term)]) async throws {
        let words = terms.map(\.term.state.words)
        _ = try await other.query(
            """
            INSERT INTO lindero.split_policy (direction, schema_name, table_name, column_name, origin_lsn, other_lsn, policy, side)
            SELECT $1, s, t, c, l, o, p, nullif(d, '') FROM \(Self.given) WITH ORDINALITY AS noted (s, t, c, l, o, number)
              JOIN ROWS FROM (pg_catalog.unnest($7::text[]), pg_catalog.unnest($8::text[])) WITH ORDINALITY AS words (p, d, number) USING (number)
            ON CONFLICT (direction, schema_name, table_name, column_name, origin_lsn, other_lsn) DO UPDATE SET policy = EXCLUDED.policy,
              side = EXCLUDED.side
            """, (places(terms) + [SQLText.arrayLiteral(words.map(\.policy)), SQLText.arrayLiteral(words.map { $0.side ?? "" })]).map { .text($0) })
    }

    private func forget(_ terms: [(column: ColumnName, term: Term)]) async throws {
        if terms.isEmpty { return }
        _ = try await other.query(
            """
            DELETE FROM lindero.split_policy USING \(Self.given) AS given (s, t, c, l, o)
            WHERE direction = $1 AND (schema_name, table_name, column_name, origin_lsn, other_lsn) = (s, t, c, l, o)
            """, places(terms).map { .text($0) })
    }

    func forget() async throws {
        _ = try await other.query("DELETE FROM lindero.split_policy WHERE direction = $1", [.text(direction)])
    }
}
