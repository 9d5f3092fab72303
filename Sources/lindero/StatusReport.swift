import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

/// Everything `lindero status` tells: databases, directions, the guard, and whether the gates hold.
struct StatusReport: Sendable {
    struct DatabaseStatus: Sendable {
        var name: String
        var place: String
        /// `nil` when it cannot be reached.
        var serverVersion: Int?
        var problem: String?
    }

    /// One condition that the configuration sets for going on.
    struct Gate: Sendable {
        var name: String
        var limit: String
        var value: String?
        /// `nil` when the value is not known.
        var holds: Bool?
    }

    var backend: LinderoConfiguration.Backend
    var phase: PhaseStatus
    var databases: [DatabaseStatus] = []
    var directions: [LagReport] = []
    /// Why nothing is known of them: the origin can't be asked.
    var problem: String?
    var gates: [Gate] = []
    /// Closed gates that a move stands before now, and why.
    var waitsFor: [String] = []
    /// The last comparison of each direction's databases.
    var verifications: [LastVerification] = []
    /// Of each database that can be reached and may hold some.
    var conflicts: [ConflictStatus] = []
    /// Changes that a target refused and that wait for a person, by target; those that can be asked.
    var quarantine: [(database: String, openCount: Int)] = []
    /// `nil` outside of a split, and while a side can't be reached.
    var clock: ClockStatus?
    /// As `clock`.
    var sequences: SequenceReport?
    /// `nil` when nothing is guarded or it cannot be read.
    var guardState: GuardCommand.State?
    /// What would bring the guard back to what it should be; `nil` when it is off or that cannot be told.
    var guardReview: GuardPlan?
    /// Why it cannot be told.
    var guardProblem: String?

    static func read(_ loaded: LoadedConfiguration) async throws -> StatusReport {
        var report = StatusReport(backend: loaded.configuration.backend, phase: await PhaseStatus.read(loaded))
        for database in try loaded.databases() {
            var status = DatabaseStatus(name: database.name, place: "\(database.options)")
            do {
                status.serverVersion = try await database.connected { await $0.serverVersion }
            } catch let failure as CommandFailure {
                status.problem = failure.message
            }
            report.databases.append(status)
        }
        do {
            report.directions = try await LagDirection.reports(loaded)
        } catch let failure as CommandFailure {
            report.problem = "directions: not known, \(failure.message)"
        }
        do {
            try await report.readGuard(loaded)
        } catch let failure as CommandFailure {
            report.guardProblem = "guard: not known, \(failure.message)"
        }
        report.conflicts = try await SplitWatch.conflicts(loaded)
        report.quarantine = try await quarantine(loaded)
        report.clock = try? await SplitWatch.clock(loaded)
        report.sequences = try? await SequenceReport.read(loaded)
        report.verifications = await VerifyGate.read(loaded)
        report.gates = report.directions.flatMap { gates(loaded.configuration.gates, $0) }
        report.gates += VerifyGate.gates(loaded, report.verifications)
        report.waitsFor = Self.waits(report, loaded)
        return report
    }

    private static func quarantine(_ loaded: LoadedConfiguration) async throws -> [(database: String, openCount: Int)] {
        var found: [(database: String, openCount: Int)] = []
        for target in try loaded.others() {
            let count = try? await target.connected { try await QuarantineStore(connection: $0).openCount() }
            if let count { found.append((target.name, count)) }
        }
        return found
    }

    private mutating func readGuard(_ loaded: LoadedConfiguration) async throws {
        let origin = try loaded.origin()
        guardState = try await origin.connected { try await GuardCommand.state(connection: $0) }
        guard guardState != nil else {
            if try await origin.connected({ try await GuardCommand.isHidden(connection: $0) }) {
                guardProblem = "guard: this role may not read the schema lindero, so it is not known"
            }
            return
        }
        do {
            guardReview = try await origin.connected { connection in
                try await GuardCommand.review(
                    connection: connection, policy: try await loaded.ownership(connection),
                    configuration: loaded.configuration)
            }
        } catch let failure as CommandFailure {
            guardProblem = failure.message
        }
    }

    private static func waits(_ report: StatusReport, _ loaded: LoadedConfiguration) -> [String] {
        switch report.phase.state.move == nil ? nil : report.phase.state.current?.work {
        case .gates, .observe:
            report.directions.flatMap { direction in gates(loaded.configuration.gates, direction).compactMap(\.closedWords) }
        case .verify: VerifyGate.gates(loaded, report.verifications).compactMap(\.closedWords)
        default: []
        }
    }

    static func gates(_ gates: Gates, _ direction: LagReport) -> [Gate] {
        let maxLagSeconds = Double(gates.maxLagMilliseconds) / 1_000
        return [
            Gate(
                name: "\(direction.name) max_lag", limit: PlainText.seconds(maxLagSeconds),
                value: direction.lagSeconds.map { PlainText.seconds($0) },
                holds: direction.lagSeconds.map { $0 <= maxLagSeconds }),
            Gate(
                name: "\(direction.name) max_lag_bytes", limit: PlainText.bytes(gates.maxLagBytes),
                value: direction.lagBytes.map { PlainText.bytes($0) },
                holds: direction.lagBytes.map { $0 <= UInt64(gates.maxLagBytes) }),
            Gate(
                name: "\(direction.name) max_retained_wal", limit: PlainText.bytes(gates.maxRetainedWALBytes),
                value: direction.retainedWALBytes.map { PlainText.bytes($0) },
                holds: direction.retainedWALBytes.map { $0 <= Int64(gates.maxRetainedWALBytes) }),
        ]
    }
}

// MARK: printing

extension StatusReport {
    var json: JSONValue { .object(place + details) }

    private var place: [(String, JSONValue)] {
        [
            ("backend", .text(backend.rawValue)), ("phase", .text(phase.state.word)), ("move", phase.json),
            ("waitsFor", .texts(waitsFor)), ("rollback", phase.safety.json),
        ]
    }

    private var details: [(String, JSONValue)] {
        [
            (
                "databases",
                .array(
                    databases.map { database in
                        .object([
                            ("name", .text(database.name)), ("address", .text(database.place)),
                            ("serverVersion", .optional(database.serverVersion)),
                            ("problem", .optional(database.problem)),
                        ])
                    })
            ),
            ("directions", .array(directions.map(\.json))),
            ("problems", .texts([problem].compactMap { $0 } + directions.problems)),
            (
                "gates",
                .array(
                    gates.map { gate in
                        .object([
                            ("name", .text(gate.name)), ("limit", .text(gate.limit)), ("value", .optional(gate.value)),
                            ("holds", .optional(gate.holds)),
                        ])
                    })
            ),
            ("verifications", .array(verifications.map(VerifyGate.document))),
            ("conflicts", .array(conflicts.map(\.document))),
            (
                "quarantine",
                .array(quarantine.map { .object([("database", .text($0.database)), ("open", .integer(Int64($0.openCount)))]) })
            ),
            ("clock", clock?.document ?? .null),
            ("sequences", sequences?.json ?? .null),
            (
                "guard",
                guardState.map { state in
                    .object([
                        ("mode", .text(state.mode.rawValue)), ("tables", .texts(state.tables.map(\.description))),
                        ("drift", .optional(guardReview?.drift ?? guardProblem)),
                        ("statements", .optional(guardReview.map { Int64($0.statements.count) })),
                        ("problems", .texts(guardReview?.problems.map(\.description) ?? [])),
                        ("notices", .texts(guardReview?.notices ?? [])),
                    ])
                } ?? .null
            ),
        ]
    }

    var lines: [String] {
        var lines = ["backend \(backend.rawValue), \(problem == nil ? directions.worstState.rawValue : "not known")"] + phase.lines
        lines += waitsFor.map { "the move waits: \($0)" } + [""]
        var table = TextTable(["database", "server", "address"])
        for database in databases {
            let version = database.serverVersion.map { "\($0 / 10_000).\($0 % 10_000)" } ?? "unreachable"
            table.add([database.name, version, database.place])
        }
        lines += table.lines + [""] + (problem.map { [$0] } ?? directions.lines) + [""]
        var gateTable = TextTable(["gate", "limit", "now", "holds"])
        for gate in gates {
            gateTable.add([gate.name, gate.limit, gate.value ?? "-", gate.holds.map { $0 ? "yes" : "no" } ?? "unknown"])
        }
        lines += gateTable.lines + gates.compactMap(\.closedWords) + [""]
        lines += verifications.map(VerifyGate.words)
        if let clock { lines.append("clocks: \(clock.words)") }
        if let words = sequences?.words { lines.append("sequences: \(words)") }
        lines += conflicts.compactMap(\.words).map { $0 + " (lindero conflicts list)" }
        lines += quarantine.filter { $0.openCount > 0 }.map {
            "quarantine: \(PlainText.count($0.openCount, "change")) that \($0.database) refused (lindero quarantine list)"
        }
        if guardState == nil, let guardProblem { return lines + [guardProblem] }
        let guarding =
            guardState.map { "guard: \($0.mode.rawValue) on \($0.tables.count) tables" }
            ?? "guard: off (lindero guard plan)"
        let drift = (guardReview?.drift ?? guardProblem).map { [$0] } ?? []
        return lines + [guarding] + drift
    }
}
