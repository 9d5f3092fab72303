import PostgresClient
import ReplicationCore
import Replicator

/// What a command would do, before it does anything.
struct PhasePreview: Sendable {
    /// Rows a minute that a comparison manages on a small machine; bytes a second that a copy does. For estimates alone.
    static let rowsPerSecond = 100_000.0
    static let copyBytesPerSecond = 30_000_000.0

    struct Move: Sendable {
        var move: PhaseMove
        /// Works that were done before.
        var done: Int
        var words: [String]
        var seconds: [Double?]
    }

    var state: PhaseState
    var moves: [Move]
    var findings: [PreflightFinding]
    var closedGates: [String]
    var leftCopies: [QualifiedName]
    var safety: RollbackSafety?
    /// What is lost with a database that is given up.
    var losses: [String] = []

    static func make(
        _ loaded: LoadedConfiguration, _ next: (PhaseState) -> PhaseMove?
    ) async throws -> PhasePreview {
        let loaded = loaded.state.splitToGiveUp.map { loaded.running($0) } ?? loaded
        let pair = try PhasePair(loaded)
        let began = loaded.state
        var preview = PhasePreview(state: began, moves: [], findings: [], closedGates: [], leftCopies: [], safety: nil)
        // Only an estimate: on the way back a file that is not valid (any more) is no reason to stay.
        let isForward = next(began)?.isForward ?? true
        let size = isForward ? try await Self.size(loaded) : (try? await Self.size(loaded)) ?? (0, 0)
        var state = began
        while let move = next(state) {
            let words = PhaseWords(origin: pair.origin.name, other: pair.other.name, gates: loaded.configuration.gates, move: move)
            let done = state.move == move ? (state.isLastEnded ? state.begunCount : state.begunCount - 1) : 0
            preview.moves.append(
                Move(
                    move: move, done: done, words: move.works.map { words.words($0) },
                    seconds: move.works.map { seconds($0.work, size, loaded.configuration) }))
            state = PhaseState(phase: move.to)
            if move.givesUp { break }
        }
        if let first = preview.moves.first?.move {
            if first.isForward {
                preview.findings = await PhasePreflight(loaded: loaded, to: first.to).run().findings
            } else if first.givesUp {
                preview.losses = try await LostRollback.losses(pair, loaded)
                return preview
            } else {
                preview.safety = await RollbackSafety.read(loaded)
            }
            let direction = "\(pair.origin.name)->\(pair.other.name)"
            if first.to == .replica, first.isForward {
                preview.leftCopies = try await pair.other.connected { try await LeftCopies(name: pair.other.name, target: $0, direction: direction).tables() }
            }
            if began.worker.backend != .shared {
                let reports = try await LagDirection.reports(loaded, standbys: false)
                preview.closedGates = reports.flatMap { StatusReport.gates(loaded.configuration.gates, $0) }.compactMap(\.closedWords)
            }
        }
        return preview
    }

    private static func size(_ loaded: LoadedConfiguration) async throws -> (bytes: Double, rows: Double) {
        try await loaded.origin().connected { connection in
            let names = try await loaded.running(.replica).policy(connection).tables.keys.sorted()
            let result = try await connection.query(
                """
                SELECT coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::text, coalesce(sum(greatest(c.reltuples, 0)), 0)::text
                FROM pg_catalog.pg_class c WHERE c.oid = ANY (SELECT pg_catalog.to_regclass(n)::oid FROM pg_catalog.unnest($1::text[]) n)
                """, [.text(SQLText.arrayLiteral(names.map(\.sql)))])
            let row = result.rows.first
            return (row?[0].flatMap { Double($0) } ?? 0, row?[1].flatMap { Double($0) } ?? 0)
        }
    }

    /// `nil` where it depends on what happens meanwhile.
    private static func seconds(
        _ work: PhaseWork, _ size: (bytes: Double, rows: Double), _ configuration: LinderoConfiguration
    ) -> Double? {
        switch work {
        case .plan, .settle, .restoreIdentity, .endReplica, .emptyCopies: 0.1
        case .preflight, .migrate, .widenIdentity, .drain, .endSplit, .bothStream, .worker, .giveUp: 1
        case .copied:
            1 + size.bytes / (configuration.replication.copy.rateLimitBytes > 0
                ? Double(configuration.replication.copy.rateLimitBytes) : copyBytesPerSecond)
        case .verify, .privateHome: 1 + size.rows / rowsPerSecond
        case .observe: Double(configuration.gates.observeSeconds)
        case .gates, .moveServices: nil
        }
    }

    var isBlocked: Bool {
        findings.contains { $0.severity == .blocker } || safety?.isSafe == false
    }
}

// MARK: printing

extension PhasePreview {
    /// - Parameter command: what `--execute` is to be added to.
    func lines(command: String) -> [String] {
        var lines = ["phase \(state.words)"]
        for move in moves {
            lines += ["", "\(move.move.from.rawValue) -> \(move.move.to.rawValue)"]
            for (index, work) in move.move.works.enumerated() {
                let time = move.seconds[index].map { "about \(PlainText.seconds($0))" } ?? "as long as it takes"
                let done = index < move.done ? " (done)" : " (\(time))"
                lines.append("  \(index + 1). \(work.step.rawValue): \(move.words[index])\(done)")
            }
        }
        if !leftCopies.isEmpty {
            lines += ["", "To be emptied, copied there before: \(leftCopies.map(\.description).joined(separator: ", "))"]
        }
        lines += losses.isEmpty ? [] : [""] + losses
        if let safety { lines += ["", "safe to roll back: \(safety.words)"] }
        lines += closedGates.isEmpty ? [] : [""] + closedGates
        let told = findings.filter { $0.severity != .note }
        lines += told.isEmpty ? [] : [""] + told.map(\.description)
        if let first = moves.first?.move, let last = moves.last?.move, first.isForward, last.to != first.to {
            lines += ["", "What stands in the way of \(last.to.rawValue) is looked at when \(first.to.rawValue) is there: by the same dry run then."]
        }
        let next = isBlocked ? "mend the blockers, then \(command)" : "\(command) --execute"
        return lines + ["", "Nothing was changed.", "Next: \(next)"]
    }

    var json: JSONValue {
        .object([
            ("phase", .text(state.phase.rawValue)), ("blocked", .bool(isBlocked)),
            (
                "moves",
                .array(
                    moves.map { move in
                        .object([
                            ("from", .text(move.move.from.rawValue)), ("to", .text(move.move.to.rawValue)),
                            (
                                "steps",
                                .array(
                                    move.move.works.enumerated().map { index, work in
                                        .object([
                                            ("number", .integer(Int64(index + 1))), ("step", .text(work.step.rawValue)),
                                            ("work", .text(work.work.rawValue)), ("worker", .text(work.worker.rawValue)),
                                            ("does", .text(move.words[index])), ("expectedSeconds", .optional(move.seconds[index])),
                                            ("done", .bool(index < move.done)),
                                        ])
                                    })
                            ),
                        ])
                    })
            ),
            ("closedGates", .texts(closedGates)), ("rollback", safety?.json ?? .null), ("losses", .texts(losses)),
            ("emptied", .texts(leftCopies.map(\.description))),
            (
                "findings",
                .array(
                    findings.map { finding in
                        .object([
                            ("severity", .text(finding.severity.rawValue)), ("code", .text(finding.code.rawValue)),
                            ("message", .text(finding.message)), ("fix", .optional(finding.fix)),
                        ])
                    })
            ),
        ])
    }
}

extension RollbackSafety {
    var words: String { "\(isSafe ? "yes" : "no"), because \(because)" }
    var json: JSONValue { .object([("safe", .bool(isSafe)), ("because", .text(because))]) }
}

extension PhaseState {
    /// `shared -> replica, copying`, or the phase at rest.
    var words: String {
        guard let move else { return phase.rawValue }
        let work = current.map { ", \($0.step.rawValue) (\($0.work.rawValue), \(isLastEnded ? begunCount + 1 : begunCount) of \(move.works.count))" }
        return "\(move.from.rawValue) -> \(move.to.rawValue)\(work ?? "")"
    }
}
