import Logging
import PostgresClient
import ReplicationCore
import Synchronization

/// Makes keys, constraints and indexes of the tables that Lindero created, once their data is there.
///
/// Every step looks first whether its object exists, so all of it can be killed and run again.
struct IndexBuilder {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    let target: PostgresConnection

    func run(_ schema: SourceSchema) async throws {
        let steps = schema.afterCopy
        guard !steps.isEmpty else { return }
        logger.info("building indexes and constraints", metadata: ["count": "\(steps.count)"])
        let state = state
        let tally = IndexTally(steps, after: state.snapshot().copy ?? CopyProgress()) { state.note(copy: $0) }
        for stage in SchemaStep.Stage.allCases {
            let wanted = steps.filter { $0.stage == stage }
            guard !wanted.isEmpty else { continue }
            try await run(Self.lanes(wanted, stage), tally)
        }
    }

    /// Steps of one lane follow each other; lanes run side by side, the largest first.
    private static func lanes(_ steps: [SchemaStep], _ stage: SchemaStep.Stage) -> [[SchemaStep]] {
        // Foreign keys lock two tables, and the order of the others matters or costs nothing.
        if stage == .foreignKey || stage == .attachment || stage == .owner { return [steps] }
        var lanes: [[SchemaStep]] = []
        var places: [String: Int] = [:]
        for step in steps {
            if stage == .index {
                lanes.append([step])
            } else if let place = places[step.table] {
                lanes[place].append(step)
            } else {
                places[step.table] = lanes.count
                lanes.append([step])
            }
        }
        return lanes.sorted { $0.reduce(0) { $0 + $1.sizeBytes } > $1.reduce(0) { $0 + $1.sizeBytes } }
    }

    private func run(_ lanes: [[SchemaStep]], _ tally: IndexTally) async throws {
        let queue = LaneQueue(lanes)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            let jobs = min(lanes.count, max(1, settings.replication.copy.jobs))
            for _ in 0..<jobs {
                group.addTask {
                    try await PostgresConnection.with(settings.target) { session in
                        try await prepare(session)
                        while let lane = queue.next() {
                            for step in lane { try await run(step, on: session, tally) }
                        }
                    }
                    return true
                }
            }
            group.addTask {
                try await watch(tally)
                return false
            }
            var left = jobs
            while left > 0, let isJob = try await group.next() { left -= isJob ? 1 : 0 }
            group.cancelAll()
        }
    }

    private func prepare(_ session: PostgresConnection) async throws {
        try await CopyGate(settings: settings).join(session)
        _ = try await session.query(
            """
            SELECT pg_catalog.set_config(name, $1::text || 'kB', false) FROM pg_catalog.pg_settings
            WHERE name = 'maintenance_work_mem' AND setting::bigint < $1::text::bigint
            """, [.text("\(settings.replication.copy.indexMemoryBytes / 1_024)")])
    }

    private func run(_ step: SchemaStep, on session: PostgresConnection, _ tally: IndexTally) async throws {
        try Task.checkCancellation()
        let process = try await session.query("SELECT pg_catalog.pg_backend_pid()::text").firstValue ?? ""
        tally.begin(step, process: process)
        do {
            _ = try await session.execute(step.sql)
        } catch {
            if error.isTransient || error == .cancelled { throw error }
            throw ReplicationFailure(
                .schemaDiffers,
                "A key, constraint or index could not be made on the target: \(error). The statement was: \(step.sql)",
                nextStep: "Mend the cause and start again; the copied tables are kept.", isBlocker: true)
        }
        tally.finish(step, process: process)
    }

    /// Asks the server, until cancelled, how far the indexes are that it is building.
    private func watch(_ tally: IndexTally) async throws {
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: .milliseconds(500))
                let rows = try await target.query(
                    """
                    SELECT pid::text, (CASE
                        WHEN phase LIKE '%loading tuples%' AND tuples_total > 0
                          THEN 0.6 + 0.4 * tuples_done / tuples_total
                        WHEN phase LIKE '%sorting%' THEN 0.5
                        WHEN phase LIKE 'building index%' AND blocks_total > 0 THEN 0.5 * blocks_done / blocks_total
                        ELSE 0 END)::text
                    FROM pg_catalog.pg_stat_progress_create_index
                    """
                ).rows
                tally.note(
                    Dictionary(
                        rows.map { ($0[0] ?? "", $0[1].flatMap { Double($0) } ?? 0) }, uniquingKeysWith: { first, _ in first }))
            } catch {
                if Task.isCancelled { return }
                throw error
            }
        }
    }
}

private final class LaneQueue: Sendable {
    private let lanes: Mutex<[[SchemaStep]]>

    init(_ lanes: [[SchemaStep]]) { self.lanes = Mutex(lanes.reversed()) }

    func next() -> [SchemaStep]? { lanes.withLock { $0.popLast() } }
}

/// The sum of what the index jobs have done.
private final class IndexTally: Sendable {
    private struct State {
        var progress: CopyProgress
        var sizeFinished = 0
        /// Sizes of the steps under way, by the server's process, and how far each is.
        var underway: [String: (size: Int, fraction: Double)] = [:]
    }

    private let state: Mutex<State>
    private let startedAtMilliseconds = Monotonic.milliseconds()
    private let report: @Sendable (CopyProgress) -> Void

    init(_ steps: [SchemaStep], after progress: CopyProgress, report: @escaping @Sendable (CopyProgress) -> Void) {
        var progress = progress
        progress.step = .indexes
        progress.elapsedMilliseconds = 0
        progress.indexesDone = 0
        progress.indexesTotal = steps.count { $0.isCounted }
        progress.indexSizeDone = 0
        progress.indexSizeTotal = steps.reduce(0) { $0 + $1.sizeBytes }
        state = Mutex(State(progress: progress))
        self.report = report
        report(progress)
    }

    func begin(_ step: SchemaStep, process: String) { update { $0.underway[process] = (step.sizeBytes, 0) } }

    func finish(_ step: SchemaStep, process: String) {
        update { state in
            state.underway[process] = nil
            state.sizeFinished += step.sizeBytes
            state.progress.indexesDone += step.isCounted ? 1 : 0
        }
    }

    func note(_ fractions: [String: Double]) {
        update { state in
            for (process, fraction) in fractions {
                state.underway[process]?.fraction = max(0, min(1, fraction))
            }
        }
    }

    private func update(_ body: (inout State) -> Void) {
        let progress = state.withLock { state in
            body(&state)
            let partial = state.underway.values.reduce(0.0) { $0 + Double($1.size) * $1.fraction }
            state.progress.indexSizeDone = state.sizeFinished + Int(partial)
            state.progress.elapsedMilliseconds = Monotonic.milliseconds() - startedAtMilliseconds
            return state.progress
        }
        report(progress)
    }
}
