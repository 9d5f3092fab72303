import PostgresClient
import ReplicationCore
import Synchronization

/// The target's sessions that apply: while one is at work on a group, the other may begin the next.
enum ApplySession: Int, Sendable {
    /// The one that does everything else, too.
    case home
    case second

    var other: ApplySession { self == .home ? .second : .home }
}

/// The free part of a group, under way on the session that is not at work on the group before.
///
/// Its transaction commits after that group's. Until it is claimed for that, it waits for nobody long, and lets nobody wait
/// long: who waits for a row that it holds may be whom the group before waits for, and no server sees that circle.
final class GroupOverlap: Sendable {
    /// How long it waits for the group before.
    static let patienceMilliseconds = 2_000
    /// How long for a lock: well below `deadlock_timeout`, when the server would end one of the two, and perhaps the other one.
    static let lockMilliseconds = 250

    /// The session's transaction, and whether the free part is in it: if not, nothing is.
    typealias Outcome = (transaction: TargetTransaction, isDone: Bool)

    private let claim = Claim()
    private let task: Task<Outcome, Never>

    init(_ free: [GroupWork], on transaction: TargetTransaction) {
        task = Task { [claim] in
            var transaction = transaction
            do {
                try await transaction.beginEarly(lockMilliseconds: Self.lockMilliseconds)
                for work in free { try await transaction.apply(work) }
                if await claim.isMade(withinMilliseconds: Self.patienceMilliseconds) { return (transaction, true) }
            } catch {
                // The group is applied again after the other: what is wrong with it is seen then.
            }
            if !Task.isCancelled { await transaction.rollBack() }
            return (transaction, false)
        }
    }

    /// What came of it, once it has: the group before has committed.
    func claimed() async -> Outcome {
        claim.make()
        return await ended()
    }

    /// The session's transaction, with nothing in it.
    func takenBack() async -> TargetTransaction {
        task.cancel()
        var transaction = await ended().transaction
        await transaction.rollBack()
        return transaction
    }

    private func ended() async -> Outcome {
        var outcome = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        if !outcome.isDone { await outcome.transaction.rollBack() }
        return outcome
    }
}

/// Whether somebody wants what is done, told until it is given up.
private final class Claim: Sendable {
    private enum State { case open, made, lapsed }
    private let state = Mutex(State.open)
    private let news = Signal()

    func make() {
        state.withLock { if $0 == .open { $0 = .made } }
        news.notify()
    }

    func isMade(withinMilliseconds: Int) async -> Bool {
        if state.withLock({ $0 == .open }) { await news.wait(timeoutMilliseconds: withinMilliseconds) }
        return state.withLock { state in
            if state == .open { state = .lapsed }
            return state == .made
        }
    }
}

extension TargetTransaction {
    /// Runs work that must all do what it should.
    mutating func apply(_ work: GroupWork) async throws {
        switch work {
        case .copy(let copy): try await apply(copy)
        case .statements(let batch), .check(let batch):
            guard try await apply(batch).isEmpty else { throw ApplyError.missingRow(nil) }
        }
    }

    /// Copies rows in.
    mutating func apply(_ copy: RowCopy, whenSent: (@Sendable () -> Void)? = nil) async throws {
        do {
            let count = try await self.copy(copy, whenSent: whenSent)
            guard count == copy.encoder.rowCount else { throw ApplyError.missingRow(nil) }
        } catch let error as PostgresError {
            throw ApplyError.refusal(error, of: nil)
        }
    }

    /// Runs a batch.
    ///
    /// - Returns: what reached more rows than it should, or less.
    mutating func apply(
        _ batch: StepBatch, whenSent: (@Sendable () -> Void)? = nil
    ) async throws -> [StepBatch.Expectation] {
        guard !batch.isEmpty else { return [] }
        do {
            let results = try await run(batch.stepsWithoutProgress, whenSent: whenSent)
            return batch.expectations.filter { expected in
                expected.rows.map { results[expected.step].affectedRows != $0 } ?? false
            }
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: batch.change(at: failure.stepIndex))
        }
    }
}
