import Foundation
import Logging
import Observability
import PostgresClient
import ReplicationCore
import Replicator

/// The worker: keeps every direction of a plan running until it is told to stop.
struct Worker: Sendable {
    /// How long a stream may take to hand over what it has after the first signal.
    static let drainMilliseconds = 30_000

    let plan: WorkerPlan
    let logger: Logger
    /// Whether the status is told periodically.
    let showsStatus: Bool
    /// Where the status is served; `nil` for nowhere.
    var address: HTTPAddress?
    let stopRequest: StopRequest
    /// What the record of the phases said last.
    let phase: PhaseGlance
    /// Names this process in its heartbeats.
    ///
    /// With a part of its own for each start: a container gives every process the same host and process id.
    let name =
        "\(ProcessInfo.processInfo.hostName)-\(ProcessInfo.processInfo.processIdentifier)-"
        + String(UInt64.random(in: 0...UInt64.max), radix: 36)

    /// Runs until drained by a signal, or until every direction has failed for good.
    ///
    /// - Throws: the first failure, after the other directions were drained.
    func run() async throws {
        LargeBlocks.giveBack()
        if plan.tasks.contains(where: \.isSplit) { LargeBlocks.shareHeaps() }
        let jobs = plan.tasks.map { task in
            Job(task: task, members: task.directions.map { Member(settings: $0, state: DirectionState()) })
        }
        let members = jobs.flatMap(\.members)
        await LeftSpillFiles.remove(base: plan.loaded?.configuration.replication.spillDirectory)
        await endFeed()
        let work = Task { try await runAll(jobs) }
        stopRequest.onRequest { stop(members, work) }
        let status = Task { await showStatus(members) }
        defer { status.cancel() }
        let standbys = StandbyWatch(plan.standbys, logger: logger)
        let watching = Task { await standbys.run() }
        defer { watching.cancel() }
        let guarding = Task { if let loaded = plan.loaded { await GuardWatch(loaded: loaded, logger: logger).run() } }
        defer { guarding.cancel() }
        let split = SplitWatch(plan, logger: logger)
        let splitting = Task { await split.run() }
        defer { splitting.cancel() }
        let serving = try serve(members, standbys, split)
        defer { serving?.cancel() }
        let result = await work.result
        StatusLine.clear()
        if case .failure(let error) = result, !isStopping(error) { throw error }
        if !stopRequest.isRequested {
            throw CommandFailure("ended", "The worker ended without being asked to.", nextStep: "Run `lindero run` again.")
        }
        for member in members { logEnd(member) }
    }

    /// One direction.
    struct Member: Sendable {
        let settings: DirectionSettings
        let state: DirectionState
    }

    private struct Job: Sendable {
        let task: WorkerPlan.Task
        let members: [Member]
    }

    private func runAll(_ jobs: [Job]) async throws {
        // Until it is told to stop.
        if jobs.isEmpty { return try await Task.sleep(for: .seconds(Int64.max / 2_000_000_000)) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for job in jobs { group.addTask { try await runNamed(job) } }
            var failure: (any Error)?
            while let result = await group.nextResult() {
                guard case .failure(let error) = result else { continue }
                failure = failure ?? error
                for member in jobs.flatMap(\.members) { member.state.drain() }
            }
            if let failure { throw failure }
        }
    }

    /// Errors that a person reads say which direction they are about.
    private func runNamed(_ job: Job) async throws {
        do {
            try await run(job)
        } catch {
            guard !isStopping(error), let settings = job.members.first?.settings else { throw error }
            if job.task.isSplit {
                throw CommandFailure(error, place: "\(settings.sourceName) (\(settings.source)) and \(settings.targetName) (\(settings.target))")
            }
            let target = settings.backend == .shared ? "" : " to \(settings.target)"
            throw CommandFailure(error, place: "\(settings.name) (\(settings.source)\(target))")
        }
    }

    private func run(_ job: Job) async throws {
        let state = job.members[0].state
        switch job.task {
        case .feed(let settings):
            try await migrate(settings.source, name: settings.sourceName)
            try await ChangeFeed(settings: settings, state: state, logger: logger, worker: name).run()
        case .replica(let settings):
            try await DirectionSupervisor(
                settings: settings, state: state, logger: logger, worker: name,
                prepare: { try await InitialSync(settings: $0, state: state, logger: logger).run() }
            ).run()
        case .split(let settings):
            try await SplitSupervisor(
                settings: settings, states: SidePair(origin: state, other: job.members[1].state), logger: logger, worker: name
            ).run()
        }
    }

    /// Outside of shared mode nobody reads its change feed.
    private func endFeed() async {
        guard let loaded = plan.loaded, plan.backend != .shared, let origin = try? loaded.origin() else { return }
        do {
            let slot = try await origin.connected { try await SlotName.make($0, purpose: "feed") }
            if plan.tasks.flatMap(\.directions).contains(where: { $0.slot == slot }) || loaded.namedObjects.contains(slot) { return }
            if try await origin.connected({ try await ChangeFeed.end(on: $0, slot: slot) }) {
                logger.info("the change feed of shared mode is over", metadata: ["slot": "\(slot)"])
            }
        } catch {
            logger.warning(
                "the slot of shared mode's change feed may still keep WAL",
                metadata: ["reason": "\(CommandFailure(error).message)", "next": "lindero decommission"])
        }
    }

    private func migrate(_ options: ConnectionOptions, name: String) async throws {
        let applied = try await PostgresConnection.with(options) { try await Migrator(connection: $0).migrate() }
        if !applied.isEmpty {
            let versions = applied.map(String.init).joined(separator: ",")
            logger.info("migrated the schema lindero", metadata: ["database": "\(name)", "versions": "\(versions)"])
        }
    }
}

// MARK: stopping

extension Worker {
    /// Drains what streams; interrupts what has nothing to hand over, and what takes too long.
    private func stop(_ members: [Member], _ work: Task<Void, any Error>) {
        let isStreaming = members.contains { [.streaming, .catchingUp].contains($0.state.phase) }
        for member in members { member.state.drain() }
        guard isStreaming else { return work.cancel() }
        Task {
            try await Task.sleep(for: .milliseconds(Self.drainMilliseconds))
            logger.warning("what is under way takes too long to end and is given up; it comes again")
            work.cancel()
        }
    }

    /// Whether an error is only what stopping itself caused.
    private func isStopping(_ error: any Error) -> Bool {
        // Asked, never inferred: the directions drain too when one of them fails.
        guard stopRequest.isRequested else { return false }
        switch error {
        case is CancellationError, PostgresError.cancelled, PostgresError.closed: return true
        default: return false
        }
    }

    private func logEnd(_ member: Member) {
        let snapshot = member.state.snapshot()
        logger.notice(
            "stopped",
            metadata: [
                "direction": "\(member.settings.name)", "durable": "\(snapshot.durableLSN)",
                "changes": "\(snapshot.counters.changes)",
            ])
    }
}

// MARK: status

extension Worker {
    /// Serves the status page. A port that is taken is no reason to stop the stream.
    private func serve(_ members: [Member], _ standbys: StandbyWatch, _ split: SplitWatch) throws -> Task<Void, Never>? {
        guard let address else { return nil }
        let snapshot = WorkerSnapshot(plan: plan, members: members, standbys: standbys, split: split, worker: name, phase: phase)
        let environment = ProcessInfo.processInfo.environment
        let names = (environment["LINDERO_HTTP_NAMES"] ?? "").split { $0 == "," || $0 == " " }.map(String.init)
        let server: StatusServer
        do {
            server = try StatusServer(
                address: address, names: names, token: environment["LINDERO_HTTP_TOKEN"].flatMap { $0.isEmpty ? nil : $0 }, gates: plan.gates,
                wait: WorkerAwait.make(plan, members)
            ) { snapshot.make() }
        } catch {
            throw CommandFailure("http", "\(error)", nextStep: "Set LINDERO_HTTP_TOKEN, or give --http another address.", exit: .blocked)
        }
        return Task {
            do {
                try await server.run { bound in logger.info("status page", metadata: ["url": "http://\(bound)/"]) }
            } catch {
                if !Task.isCancelled {
                    logger.warning("no status page", metadata: ["address": "\(address)", "reason": "\(error)", "next": "give --http another address, or none"])
                }
            }
        }
    }

    static let statusMilliseconds = 2_000

    private func showStatus(_ members: [Member]) async {
        guard showsStatus else { return }
        while !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(Self.statusMilliseconds))
            if Task.isCancelled { return }
            StatusLine.show(members.map { WorkerStatus.line($0.settings.name, $0.state.snapshot()) }.joined(separator: "  "))
        }
    }
}
