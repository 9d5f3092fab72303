import ReplicationCore

/// One direction's lag as its databases tell it; `nil` is what cannot be known from there.
struct LagReport: Sendable {
    /// `DirectionPhase`, and what only an onlooker sees.
    enum State: String, Sendable {
        case notStarted = "not_started"
        case copying
        case catchingUp = "catching_up"
        case streaming, paused, reconnecting, stopped
        /// Prepared, and no worker is connected.
        case notRunning = "not_running"

        /// How far a direction is from being all right; the worst stands for the whole.
        var severity: Int {
            switch self {
            case .stopped: 7
            case .paused: 6
            case .notStarted: 5
            case .notRunning: 4
            case .reconnecting: 3
            case .copying: 2
            case .catchingUp: 1
            case .streaming: 0
            }
        }
    }

    var name: String
    var state = State.notStarted
    var problem: String?
    var receivedLSN: LSN?
    var appliedLSN: LSN?
    var sourceLSN: LSN?
    /// Time the target is behind, in steps of the heartbeat interval.
    var lagSeconds: Double?
    var retainedWALBytes: Int64?
    var safeWALBytes: Int64?
    var slot: String?
    var isSlotActive: Bool?
    var rowsPerSecond: Double?
    /// From commit to visible over the worker's recent heartbeats.
    var endToEnd = EndToEndLatency()
    var etaSeconds: Double?
    /// While the first copy is made.
    var copied: CopiedSoFar?

    init(name: String) { self.name = name }

    var lagBytes: UInt64? {
        guard let sourceLSN, let appliedLSN else { return nil }
        return sourceLSN.lagBytes(behind: appliedLSN)
    }

    private var endToEndJSON: JSONValue {
        .object([
            ("p50Ms", .optional(endToEnd.p50Milliseconds)), ("p95Ms", .optional(endToEnd.p95Milliseconds)),
            ("p99Ms", .optional(endToEnd.p99Milliseconds)),
        ])
    }

    var json: JSONValue {
        .object([
            ("name", .text(name)), ("state", .text(state.rawValue)),
            ("receivedLsn", .optional(receivedLSN?.description)), ("appliedLsn", .optional(appliedLSN?.description)),
            ("sourceLsn", .optional(sourceLSN?.description)), ("lagBytes", .optional(lagBytes)),
            ("lagSeconds", .optional(lagSeconds)),
            ("endToEnd", endToEndJSON),
            ("retainedWalBytes", .optional(retainedWALBytes)), ("safeWalBytes", .optional(safeWALBytes)),
            ("slot", .optional(slot)), ("slotActive", .optional(isSlotActive)),
            ("rowsPerSecond", .optional(rowsPerSecond)), ("etaSeconds", .optional(etaSeconds)),
        ])
    }
}

extension [LagReport] {
    /// The document of `lag --json`.
    func json(backend: LinderoConfiguration.Backend, phase: String) -> JSONValue {
        .object([
            ("backend", .text(backend.rawValue)), ("phase", .text(phase)),
            ("directions", .array(map(\.json))),
        ])
    }

    /// What holds for all of them.
    var worstState: LagReport.State {
        map(\.state).max { $0.severity < $1.severity } ?? .notStarted
    }

    /// The table for people.
    var lines: [String] {
        var table = TextTable(["direction", "state", "lag", "seconds", "applied", "slot", "retained WAL", "until lost"])
        for report in self {
            table.add([
                report.name, report.state.rawValue, report.lagBytes.map { PlainText.bytes($0) } ?? "-",
                report.lagSeconds.map { PlainText.seconds($0) } ?? "-", report.appliedLSN?.description ?? "-",
                report.slot.map { $0 + (report.isSlotActive == true ? "" : " (inactive)") } ?? "-",
                report.retainedWALBytes.map { PlainText.bytes($0) } ?? "-",
                report.safeWALBytes.map { PlainText.bytes($0) } ?? "no limit",
            ])
        }
        return table.lines + compactMap { report in report.copied.map { "\(report.name): \($0.words)" } } + problems
    }

    var problems: [String] { compactMap { report in report.problem.map { "\(report.name): \($0)" } } }
}
