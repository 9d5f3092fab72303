import Logging
import Observability
import PostgresClient
import ReplicationCore
import Replicator
import Synchronization

/// The worker of a system whose phase changes: runs what `lindero.phase` says, and something else when that says so.
struct PhaseFollower: Sendable {
    /// How often the record is looked at.
    static let betweenMilliseconds = 250

    let global: GlobalOptions
    let logger: Logger
    let showsStatus: Bool
    let address: HTTPAddress?
    let stopRequest: StopRequest
    private let glance = PhaseGlance()

    init(global: GlobalOptions, logger: Logger, showsStatus: Bool, address: HTTPAddress?, stopRequest: StopRequest) {
        self.global = global
        self.logger = logger
        self.showsStatus = showsStatus
        self.address = address
        self.stopRequest = stopRequest
    }

    /// Runs until told to stop, or until a direction has failed for good.
    func run() async throws {
        var last: PhaseState?
        while !stopRequest.isRequested {
            let loaded = try LoadedConfiguration.load(global)
            // Before any connection has a thread, and that a heap of its own.
            if loaded.configuration.backend == .split { LargeBlocks.shareHeaps() }
            let presence = WorkerPresence(origin: try loaded.origin())
            do {
                guard let state = try await unlessStopped({ try await presence.read() }) else { break }
                if let last, let state { logger.notice("the phase changes", metadata: ["from": "\(last.worker.rawValue)", "to": "\(state.worker.rawValue)"]) }
                last = state ?? PhaseState(phase: loaded.configuration.backend)
                glance.see(state)
                try await run(loaded.following(state), presence)
                await presence.close()
            } catch {
                await presence.close()
                throw error
            }
        }
    }

    /// Runs one plan that nothing changes.
    func run(_ plan: @escaping @Sendable () async throws -> WorkerPlan) async throws {
        guard let plan = try await unlessStopped(plan) else { return }
        try await run(plan, stopRequest)
    }

    /// One plan, until the record says something else.
    private func run(_ loaded: LoadedConfiguration, _ presence: WorkerPresence) async throws {
        let mode = loaded.phase?.worker ?? WorkerMode(loaded.configuration.backend)
        guard let plan = try await unlessStopped({ mode == .nothing ? WorkerPlan.nothing(loaded) : try await Self.plan(loaded) })
        else { return }
        let change = StopRequest()
        stopRequest.onRequest { change.request() }
        try await presence.show(mode)
        // The record may have gone on since it was read; whoever leads counts on those who showed the mode before.
        if let now = try await presence.read(), now.worker != mode { return }
        let following = Task { await presence.waitForChange(from: mode, showing: glance, logger: logger) { change.request() } }
        defer { following.cancel() }
        try await run(plan, change)
    }

    private func run(_ plan: WorkerPlan, _ stopRequest: StopRequest) async throws {
        for settings in plan.tasks.flatMap(\.directions) {
            logger.info(
                "worker starts",
                metadata: [
                    "backend": "\(plan.backend.rawValue)", "direction": "\(settings.name)",
                    "slot": "\(settings.slot)", "publication": "\(settings.publication)",
                ])
        }
        try await Worker(
            plan: plan, logger: logger, showsStatus: showsStatus, address: address, stopRequest: stopRequest, phase: glance
        ).run()
    }

    /// What `body` gives, or `nil` when the worker was told to stop before it did.
    private func unlessStopped<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value? {
        let working = Task { try await body() }
        stopRequest.onRequest { working.cancel() }
        switch await working.result {
        case .success(let value): return value
        case .failure where stopRequest.isRequested: return nil
        case .failure(let error): throw error
        }
    }

    private static func plan(_ loaded: LoadedConfiguration) async throws -> WorkerPlan {
        let plan = try await WorkerPlan.make(loaded)
        for task in plan.tasks {
            let settings: DirectionSettings
            switch task {
            case .feed: continue
            case .replica(let replica): settings = replica
            case .split(let split): settings = split.directions[.origin]
            }
            try await FirstStart(loaded: loaded, settings: settings).require(target: loaded.database(settings.targetName))
        }
        return plan
    }
}

/// What the record said when it was last looked at, for the status page.
final class PhaseGlance: Sendable {
    private let seen = Mutex<PhaseState?>(nil)

    func see(_ state: PhaseState?) { seen.withLock { $0 = state } }

    /// `nil` before the first move.
    var word: String? { seen.withLock { $0?.word } }
}

/// A session on the origin that shows what this worker runs, and sees what it is to run.
actor WorkerPresence {
    private let origin: Database
    private var connection: PostgresConnection?

    init(origin: Database) { self.origin = origin }

    func read() async throws -> PhaseState? {
        do {
            return try await PhaseStore(connection: try await open()).read()
        } catch {
            throw CommandFailure(error, place: origin.place)
        }
    }

    func show(_ mode: WorkerMode) async throws { try await PhaseLocks(connection: try await open()).show(mode) }

    func close() async {
        await connection?.close()
        connection = nil
    }

    /// Calls `onChange` once the record names another mode; a server that can't be asked is asked again.
    func waitForChange(
        from mode: WorkerMode, showing glance: PhaseGlance, logger: Logger, onChange: @Sendable () -> Void
    ) async {
        var isShown = true
        var told = ""
        while !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(PhaseFollower.betweenMilliseconds))
            if Task.isCancelled { return }
            do {
                if !isShown { try await show(mode) }
                isShown = true
                guard let state = try await PhaseStore(connection: try await open()).read() else { continue }
                glance.see(state)
                if state.worker != mode { return onChange() }
            } catch {
                // A server that can't be reached the directions tell of; what else it is nobody else would.
                let words = CommandFailure(error).message
                if told != words { logger.warning("the phase can't be read", metadata: ["reason": "\(words)"]) }
                told = words
                await close()
                isShown = false
            }
        }
    }

    private func open() async throws -> PostgresConnection {
        if let connection, await connection.isAlive { return connection }
        let new = try await PostgresConnection.connect(origin.options)
        connection = new
        return new
    }
}
