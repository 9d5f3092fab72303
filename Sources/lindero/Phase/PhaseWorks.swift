import PostgresClient
import ReplicationCore
import Replicator

/// Does the works of a move. Each looks at what is there before it changes anything, so that it can be done again.
struct PhaseWorks: Sendable {
    static let betweenMilliseconds = 300
    /// How long nobody may run what is asked for before the person is told.
    static let patienceMilliseconds: Int64 = 5_000

    let move: PhaseMove
    /// As it is while the work's worker runs.
    let loaded: LoadedConfiguration
    let pair: PhasePair
    let locks: PhaseLocks
    let line: PhaseLine
    /// `nil` to wait for ever.
    let deadlineMilliseconds: Int64?
    let command: String

    typealias Figures = [(String, JSONValue)]

    func perform(_ work: PlannedWork) async throws -> Figures {
        switch work.work {
        case .plan, .settle: return []
        case .preflight: return try await preflight()
        case .migrate: return try await migrate()
        case .emptyCopies: return try await emptyCopies()
        case .worker: return try await waitForWorker(work.worker)
        case .copied: return try await waitForCopy()
        case .gates: return try await waitForGates()
        case .observe: return try await observe()
        case .verify: return try await verify()
        case .bothStream:
            let figures = try await waitForStreams()
            try await allowMovedService(on: move.isForward ? pair.other : pair.origin)
            return figures
        case .drain: return try await drain()
        case .endReplica: return try await endReplica()
        case .moveServices: return try await moveServices()
        case .widenIdentity: return try await widenIdentity()
        case .restoreIdentity: return try await restoreIdentity()
        case .endSplit: return try await endSplit()
        case .privateHome: return try await privateHome()
        case .giveUp: return try await giveUp()
        }
    }

    // MARK: checks and preparations

    private func preflight() async throws -> Figures {
        if move.givesUp {
            try await LostCheck(lost: pair.other, left: pair.origin, loaded: loaded).require(listens: false, of: "`lindero advance --to split --execute` puts the split back")
            return []
        }
        guard move.isForward else {
            let safety = await RollbackSafety.read(loaded)
            guard safety.isSafe else {
                throw CommandFailure(
                    "rollback", "Going back now would not be safe: \(safety.because)", place: pair.origin.name,
                    nextStep: "Mend that, then run `lindero \(command)` again.", exit: .blocked)
            }
            // On the way back both appliers write everything, too, and either service may move rows.
            if move.to == .replica {
                let report = await PhasePreflight(loaded: loaded, to: .split).run()
                let rights = PreflightReport(findings: report.blockers.filter { [.targetPrivilege, .fencePrivilege, .partitionMove].contains($0.code) })
                if let failure = rights.failure(loaded) { throw failure }
            }
            return []
        }
        let report = await PhasePreflight(loaded: loaded, to: move.to).run()
        if let failure = report.failure(loaded) { throw failure }
        return [("warnings", .integer(Int64(report.findings.count { $0.severity == .warning })))]
    }

    private func migrate() async throws -> Figures {
        var figures: Figures = []
        for database in [pair.origin, pair.other] {
            let versions = try await database.connected { try await Migrator(connection: $0).migrate() }
            figures.append((database.name, .array(versions.map { .integer(Int64($0)) })))
        }
        return figures
    }

    private var forwardName: String { "\(pair.origin.name)->\(pair.other.name)" }

    private func emptyCopies() async throws -> Figures {
        let settings = try await replica()
        try await pair.origin.connected { source in
            try await pair.other.connected { try await ReplicaEnd(settings: settings, source: source, target: $0).finish() }
        }
        // An adopted target was filled by somebody else.
        guard settings.replication.snapshot == .initial else { return [] }
        let tables = try await pair.other.connected { try await LeftCopies(name: pair.other.name, target: $0, direction: forwardName).empty() }
        return tables.isEmpty ? [] : [("emptied", .texts(tables.map(\.description)))]
    }

    private func endReplica() async throws -> Figures {
        let settings = try await replica()
        var isReached = true
        do {
            try await pair.other.connected { _ in }
        } catch {
            // A replica that is gone is a reason to go back, and its slot must not fill the origin's disk.
            line.tell("\(pair.other.name) can't be reached: what it remembers of the replica stays there, until it comes to a replica again")
            isReached = false
        }
        // The worker that ran the replica may be on its way out.
        while try await !endReplica(settings, isReached) { try await wait(for: "the worker lets go of slot \(settings.slot)") }
        let stays = settings.replication.slot != nil
        if stays { line.tell("slot \(settings.slot) is named in \(loaded.path) and stays: it keeps WAL until it is dropped") }
        return [("slot", .text(settings.slot)), ("dropped", .bool(!stays)), ("forgotten", .bool(isReached))]
    }

    /// - Returns: whether nobody was in the way.
    private func endReplica(_ settings: DirectionSettings, _ isReached: Bool) async throws -> Bool {
        try await pair.origin.connected { source in
            if !isReached { return try await isFree { try await ReplicaEnd.leaveTarget(settings, source: source) } }
            return try await pair.other.connected { target in
                try await isFree { try await ReplicaEnd(settings: settings, source: source, target: target).run() }
            }
        }
    }

    func isFree(_ takeDown: () async throws -> Void) async throws -> Bool {
        do {
            try await takeDown()
            return true
        } catch ReplicaEnd.Failure.inUse {
            return false
        }
    }

    /// The direction of the replica, without asking the other database anything.
    func replica() async throws -> DirectionSettings { try await Self.replica(pair, loaded) }

    /// Refuses to treat as a replica what is a split: one that was begun without `advance`, by a file that says otherwise since.
    ///
    /// - Throws: `ReplicationFailure` (`split_begun`); `CommandFailure` where the origin can't be asked.
    static func requireReplica(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws {
        let settings = try await replica(pair, loaded)
        func refusal(_ ask: () async throws -> Void) async throws -> ReplicationFailure? {
            do {
                try await ask()
                return nil
            } catch let failure as ReplicationFailure {
                return failure
            }
        }
        let failure: ReplicationFailure?
        do {
            let found = try await pair.other.connected { other in
                try await refusal { try await ReplicaEnd.requireReplica(settings, on: other) }
            }
            guard found != nil else { return }
            failure = try await pair.origin.connected { origin in
                try await LostDatabase.arrived(settings, on: origin) == nil
                    ? ReplicaEnd.givenUp(pair.other.name, by: pair.origin.name) : found
            }
        } catch {
            // A replica that is gone is a reason to go back.
            failure = try await pair.origin.connected { origin in
                try await refusal { try await ReplicaEnd.requireReplica(settings, asking: origin) }
            }
        }
        if let failure { throw failure }
    }

    static func replica(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws -> DirectionSettings {
        let replication = loaded.configuration.replication
        let slot = try await pair.origin.connected { try await SlotName.make($0, purpose: pair.other.name) }
        return DirectionSettings(
            sourceName: pair.origin.name, targetName: pair.other.name, source: pair.origin.options, target: pair.other.options,
            slot: replication.slot ?? slot, publication: replication.publication ?? slot, backend: .replica, replication: replication,
            policy: nil)
    }

    private func verify() async throws -> Figures {
        let last = await VerifyGate.read(loaded)
        let gates = VerifyGate.gates(loaded, last)
        if !gates.isEmpty, gates.allSatisfy({ $0.holds == true }), let last = last.first {
            return [("rows", .optional(last.rows)), ("ageSeconds", .number(last.ageSeconds.rounded()))]
        }
        var rows = 0
        for settings in try await VerifyPlan.make(loaded) {
            let verification = Verification(
                settings: settings, verify: loaded.configuration.verify,
                longestSeconds: loaded.configuration.gates.verifyAgeSeconds)
            let progress = VerifyLine(name: settings.name)
            let report: VerifyReport
            do {
                report = try await verification.run { progress.show($0) }
            } catch {
                throw CommandFailure(error, place: "\(settings.name) (\(settings.source) to \(settings.target))")
            }
            guard report.result == .equal else { throw unequal(report) }
            rows += report.tables.reduce(0) { $0 + $1.rows }
        }
        return [("rows", .integer(Int64(rows))), ("differences", .integer(0))]
    }

    private func unequal(_ report: VerifyReport) -> CommandFailure {
        let message =
            report.differenceCount > 0
            ? "\(report.direction): \(PlainText.count(report.differenceCount, "row")) differ\(report.differenceCount == 1 ? "s" : "")."
            : "\(report.direction): not everything could be compared (\(PlainText.count(report.undecided, "row")) undecided, "
                + "\(PlainText.count(report.skipped.count, "table")) skipped)."
        return CommandFailure(
            "verify", message, place: report.direction,
            nextStep: "Run `lindero verify` to see which; when it is mended, `lindero \(command)` goes on.", exit: .found)
    }

    // MARK: waiting

    /// Until exactly the worker that is asked for runs.
    private func waitForWorker(_ mode: WorkerMode) async throws -> Figures {
        let began = Monotonic.milliseconds()
        var isTold = false
        while true {
            let running = try await locks.running()
            if running == [mode] { return [] }
            if running.isEmpty, let problem = await problemWithoutWorker(mode) {
                line.tell("no worker can run \(mode.rawValue) under \(loaded.path) as it is (\(problem)); going back needs none: start lindero run when it is mended")
                return [("worker", .text("none"))]
            }
            let isLate = Monotonic.milliseconds() - began > Self.patienceMilliseconds
            if isLate, running.isEmpty, !isTold {
                isTold = true
                line.tell("No worker runs; start one: lindero run")
            }
            try await wait(for: running.isEmpty ? "no worker runs: lindero run" : "a worker still runs \(running.map(\.rawValue).joined(separator: ", "))")
        }
    }

    /// Why no worker could run a mode that going back can do without; `nil` where one could, or is needed.
    private func problemWithoutWorker(_ mode: WorkerMode) async -> String? {
        guard mode == .shared, !move.isForward else { return nil }
        do {
            _ = try await WorkerPlan.make(loaded)
            return nil
        } catch {
            let failure = CommandFailure(error)
            return failure.code == "configuration" ? failure.message : nil
        }
    }

    private func waitForCopy() async throws -> Figures {
        while true {
            let report = try await forwardReport()
            switch report.state {
            case .copying, .notStarted, .notRunning, .reconnecting, .stopped, .paused:
                let done = try await copied()
                try await wait(for: "\(done.tables) tables, \(PlainText.count(done.rows)) rows copied")
            case .catchingUp, .streaming:
                let done = try await copied()
                return [
                    ("tables", .integer(Int64(done.tables))), ("rows", .integer(Int64(done.rows))),
                    ("bytes", .integer(Int64(done.bytes))),
                ]
            }
        }
    }

    private func copied() async throws -> (tables: Int, rows: Int, bytes: Int) {
        let states = try await pair.other.connected { try await TableCopyState.read($0, direction: forwardName) }
        return (states.count, states.values.reduce(0) { $0 + $1.rows }, states.values.reduce(0) { $0 + $1.bytes })
    }

    private func forwardReport() async throws -> LagReport {
        guard let report = try await reports().first(where: { $0.name == forwardName }) else {
            throw CommandFailure(
                "phase", "There is no direction \(forwardName).", place: loaded.path, nextStep: "Run `lindero check`.")
        }
        return report
    }

    private func waitForStreams() async throws -> Figures {
        while true {
            let reports = try await reports()
            let waiting = reports.filter { ![.streaming, .catchingUp].contains($0.state) || $0.isSlotActive != true }
            if waiting.isEmpty { return [] }
            try await wait(for: waiting.map { "\($0.name) \($0.state.rawValue)" }.joined(separator: ", "))
        }
    }

    private func waitForGates() async throws -> Figures {
        while true {
            let (closed, figures) = try await closedGates()
            guard let first = closed.first else { return figures }
            try await wait(for: first)
        }
    }

    /// The limits have to hold all the time; one that does not begins it anew.
    private func observe() async throws -> Figures {
        let limitMilliseconds = Int64(loaded.configuration.gates.observeSeconds) * 1_000
        var since: Int64?
        while true {
            let (closed, figures) = try await closedGates()
            let now = Monotonic.milliseconds()
            if let first = closed.first {
                since = nil
                try await wait(for: first)
                continue
            }
            let began = since ?? now
            since = began
            if now - began >= limitMilliseconds { return figures }
            try await wait(for: "the limits hold since \(PlainText.seconds(Double(now - began) / 1_000))")
        }
    }

    /// What is known of no gate keeps it closed.
    private func closedGates() async throws -> (closed: [String], figures: Figures) {
        let reports = try await reports()
        var closed = reports.flatMap { report in
            StatusReport.gates(loaded.configuration.gates, report).compactMap(\.closedWords).map { words in
                words + (report.problem.map { " (\($0))" } ?? "")
            }
        }
        closed += await StrayService.words(loaded)
        let bytes = reports.compactMap(\.lagBytes).max() ?? 0
        return (closed, [("lagBytes", .integer(Int64(clamping: bytes)))])
    }

    /// - Throws: `CommandFailure` when a direction stands still until a person acts: waiting for it would be in vain.
    private func reports() async throws -> [LagReport] {
        let reports = try await LagDirection.reports(loaded, standbys: false)
        if let report = reports.first(where: { $0.state == .stopped || $0.state == .paused }) { throw stopped(report) }
        return reports
    }

    private func stopped(_ report: LagReport) -> CommandFailure {
        CommandFailure(
            "direction_stopped", report.problem ?? "The direction is \(report.state.rawValue).", place: report.name,
            nextStep: "Run `lindero status`, mend it, start `lindero run`; then `lindero \(command)` goes on.")
    }

    func wait(for what: String) async throws {
        let isAlone = (try? await locks.running().isEmpty) ?? false
        line.show(isAlone && !what.hasPrefix("no worker") ? "\(what); no worker runs: lindero run" : what)
        if let deadlineMilliseconds, Monotonic.milliseconds() > deadlineMilliseconds {
            throw CommandFailure(
                "phase_waits", "The time is up; it waits: \(what).", place: pair.origin.name,
                nextStep: "`lindero status` says what it waits for; `lindero \(command)` goes on from here.", exit: .blocked)
        }
        try await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
    }
}

extension StatusReport.Gate {
    /// Why it is closed; `nil` while it is open.
    var closedWords: String? {
        holds == true ? nil : "gate \(name) is closed: \(value ?? "unknown"), limit \(limit)"
    }
}
