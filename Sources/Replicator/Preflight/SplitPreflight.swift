import PostgresClient
import ReplicationCore

/// What a split needs beyond its two directions: what both sides together can do to the same rows.
struct SplitPreflight {
    let configuration: LinderoConfiguration
    let policy: OwnershipPolicy
    let origin: PreflightSide
    let other: PreflightSide
    var movesServices = false

    /// Below this share of the numbers that a column can hold, it is time to think of a larger type.
    static let leastHeadroom = 0.1

    func findings() async throws -> [PreflightFinding] {
        var sides: [SplitSide] = []
        for side in [origin, other] {
            let tables = try await CatalogReader.tables(side.connection, matching: policy.tables.keys.sorted())
            sides.append(
                SplitSide(
                    name: side.name, user: side.facts.user,
                    tables: Dictionary(tables.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }),
                    facts: try await SplitFactsReader.read(
                        side.connection, tables, roles: configuration.database(side.name)?.roles ?? [])))
        }
        let transition = policy.inTransition(origin: origin.name, other: other.name)
        let (sequences, numbered) = try await self.sequences(movesServices ? transition : policy)
        var findings: [PreflightFinding] = []
        // The worker asks the same of what it runs.
        for policy in movesServices ? [policy, transition] : [policy] {
            let checks = try await SplitStartChecks.read(
                policy, [origin, other].map { ($0.name, $0.connection, configuration.database($0.name)?.roles ?? []) })
            findings += checks.findings().filter { found in
                !findings.contains { $0.code == found.code && ($0.database, $0.object) == (found.database, found.object) }
            }
        }
        for name in policy.tables.keys.sorted() {
            func check(_ policy: OwnershipPolicy) -> [PreflightFinding] {
                guard let ownership = policy.tables[name] else { return [] }
                let table = SplitOwnership(ownership: ownership, sides: sides.map(\.name))
                return SplitTableChecks(table: table, sides: sides, numberedColumns: numbered[name] ?? []).findings()
                    + SplitReferenceChecks(table: table, sides: sides, policy: policy).findings()
            }
            findings += SplitMoveChecks(movesServices: movesServices).findings(settled: check(policy), moving: check(transition))
        }
        if configuration.cutover.fence == .strict {
            for side in [origin, other] {
                findings += try await FenceChecks.read(
                    side, tables: policy.tables.keys.sorted(), services: configuration.database(other.name)?.roles ?? [],
                    movesServices: movesServices
                ).findings()
            }
        }
        findings += try await ServiceRightChecks.read(
            origin: origin, home: other, roles: configuration.database(other.name)?.roles ?? [], tables: policy.tables,
            movesServices: movesServices
        ).findings()
        for side in [origin, other] { findings += try await fills(side, sides.first { $0.name == side.name }) }
        return findings + policies() + sequences + slots() + standbys()
    }

    /// On one cluster the two directions need a slot each; each of them alone finds the last free one.
    private func slots() -> [PreflightFinding] {
        let facts = origin.facts
        guard facts.systemIdentifier != nil, facts.systemIdentifier == other.facts.systemIdentifier,
            facts.serverStartedAt == other.facts.serverStartedAt
        else { return [] }
        let own = facts.slots.filter { $0.name.hasPrefix("lindero_") }.count
        guard own == 0, facts.slotLimit - facts.slots.count == 1 else { return [] }
        return [
            PreflightFinding(
                .blocker, .replicationSlots, database: origin.name,
                "one replication slot is free (max_replication_slots = \(facts.slotLimit)), and both sides are on this server",
                fix: "ALTER SYSTEM SET max_replication_slots = '\(facts.slotLimit + 5)'; then restart the server")
        ]
    }

    /// A commit must not wait for what waits until it shows.
    private func standbys() -> [PreflightFinding] {
        [origin, other].filter(\.facts.awaitsOwnStream).map { side in
            PreflightFinding(
                .blocker, .synchronousStandby, database: side.name,
                "synchronous_standby_names (\(side.facts.standbyNames)) means Lindero's own stream, too, and what waits for that would never show",
                fix: "name the standbys that are meant, as they are in application_name: ALTER SYSTEM SET synchronous_standby_names = "
                    + "'…'; then SELECT pg_reload_conf();")
        }
    }

    /// Shared columns for which the file says nowhere who wins.
    private func policies() -> [PreflightFinding] {
        configuration.tables.flatMap { rule in
            rule.columnsWithoutPolicy.sorted().map { column in
                PreflightFinding(
                    .blocker, .policyMissing, object: "\(rule.pattern).\(column)",
                    "shared column \"\(column)\" of \(rule.pattern) has no policy: what wins when both sides write it?",
                    fix: "\(column): { policy: last_write } (or prefer, max, min, delta, queue); or defaults: { conflict: queue } "
                        + "for all", mark: rule.marks[column])
            }
        }
    }

    /// Whether the server takes what the file fills in.
    private func fills(_ side: PreflightSide, _ known: SplitSide?) async throws(PostgresError) -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        for ownership in policy.tables.values.sorted(by: { $0.table < $1.table }) {
            for (name, value) in ownership.fill.sorted(by: { $0.key < $1.key }) {
                guard let column = known?.tables[ownership.table]?.column(name) else { continue }
                do throws(PostgresError) {
                    _ = try await side.connection.query("SELECT $1", [.text(value)], parameterTypes: [column.typeOID])
                } catch {
                    guard case .server(let refusal) = error, !error.isTransient else { throw error }
                    findings.append(
                        PreflightFinding(
                            .blocker, .fillValue, database: side.name, object: "\(ownership.table).\(name)",
                            "fill of column \"\(name)\" of \(ownership.table) is no \(column.type) (\(refusal.sqlState.conditionName))",
                            fix: "write it in the text form of \(column.type)",
                            mark: configuration.tables.compactMap { $0.marks["fill \(name)"] }.first))
                }
            }
        }
        return findings
    }

    /// - Returns: findings, and by table the columns whose numbers are shared out between the sides.
    private func sequences(_ policy: OwnershipPolicy) async throws -> ([PreflightFinding], [QualifiedName: Set<String>]) {
        let split = SequenceSplit(
            origin: (origin.name, origin.connection), other: (other.name, other.connection), policy: policy,
            mode: configuration.replication.sequences)
        let steps: SequenceSteps
        do {
            steps = try await split.plan()
        } catch let error as PostgresError {
            // Reading a sequence and the numbers of a table is a right of its own.
            guard error.sqlState?.rawValue == "42501" else { throw error }
            let finding = PreflightFinding(
                .blocker, .sequencesShared, "the sequences of both sides can't be compared: \(error)",
                fix: "GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO the role, on both sides")
            return ([finding], [:])
        }
        var findings = SequenceWords(origin: origin.name, other: other.name).problems(steps).map {
            PreflightFinding(.blocker, .sequencesShared, $0.message, fix: $0.fix)
        }
        var numbered: [QualifiedName: Set<String>] = [:]
        for step in steps.steps {
            let columns = step.pair.columns.map { "\($0.table).\($0.column)" }.joined(separator: ", ")
            if step.pair.isShared { for column in step.pair.columns { numbered[column.table, default: []].insert(column.column) } }
            if step.plan != nil {
                findings.append(
                    PreflightFinding(
                        !step.pair.isShared ? .warning : movesServices ? .note : .blocker, .sequencesShared, object: columns,
                        step.pair.isShared
                            ? "both sides would give the same numbers to \(columns)" + (movesServices ? "; they are shared out on the way" : "")
                            : "a sequence of \(columns) is behind the numbers that rows have already",
                        fix: "lindero sequences apply"))
            }
            findings += headroom(step, columns)
        }
        return (findings, numbered)
    }

    private func headroom(_ step: SequenceStep, _ columns: String) -> [PreflightFinding] {
        [(origin.name, step.pair.origin), (other.name, step.pair.other)].compactMap { side, state in
            guard state.headroom < Self.leastHeadroom else { return nil }
            return PreflightFinding(
                .warning, .sequenceHeadroom, database: side, object: columns,
                "sequence \(state.name) has \(PlainText.percent(state.headroom)) of its numbers left (\(state.remaining))",
                fix: "ALTER TABLE … ALTER COLUMN … TYPE bigint; and ALTER SEQUENCE \(state.name.sql) AS bigint NO MAXVALUE;")
        }
    }
}
