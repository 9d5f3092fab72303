import ReplicationCore
import Replicator

/// The lag of a standby that PostgreSQL itself keeps.
extension LagReader {
    /// How long a standby may take to show what the primary had, before the age of its data stands for its lag.
    private static let lookMilliseconds: Int64 = 1_000
    private static let betweenLooksMilliseconds = 20

    func standby(_ standby: Database) async throws -> LagReport {
        var report = LagReport(name: direction.name)
        let before = try await readSource(heartbeatSentAt: nil)
        let facts: StandbyFacts
        let waitedMilliseconds: Int64?
        do {
            (facts, waitedMilliseconds) = try await Self.look(at: standby, until: before.currentLSN)
        } catch let failure as CommandFailure {
            report.state = .notRunning
            report.problem = "\(failure.message) (\(failure.place ?? standby.name))"
            report.sourceLSN = before.currentLSN
            return report
        }
        var slotted = direction
        slotted.slot = facts.slot
        let source = try await LagReader(direction: slotted).readSource(heartbeatSentAt: facts.lastCommitAt)
        report.slot = facts.slot
        fill(&report, source)
        report.receivedLSN = facts.receivedLSN
        report.appliedLSN = facts.replayedLSN
        report.lagSeconds =
            waitedMilliseconds.map { Double($0) / 1_000 } ?? source.heartbeatAgeMilliseconds.map { $0 / 1_000 }
        judge(&report, facts, standby)
        return report
    }

    /// An idle primary commits nothing, and then the age of the last commit says nothing about lag: what counts is
    /// whether the standby shows what the primary had when it was asked, and how long that takes.
    ///
    /// - Returns: the milliseconds until the standby had it; `nil` when it does not in time.
    private static func look(
        at standby: Database, until lsn: LSN?
    ) async throws -> (facts: StandbyFacts, waitedMilliseconds: Int64?) {
        let start = Monotonic.milliseconds()
        return try await standby.connected { connection in
            var isFirst = true
            while true {
                let facts = try await StandbyFacts.read(connection)
                let waited = Monotonic.milliseconds() - start
                if let lsn, let replayed = facts.replayedLSN, facts.isInRecovery, replayed >= lsn {
                    return (facts, isFirst ? 0 : waited)
                }
                let mayComeYet = facts.isStreaming && !facts.isReplayPaused
                guard mayComeYet, waited < lookMilliseconds else { return (facts, nil) }
                isFirst = false
                try await Task.sleep(for: .milliseconds(betweenLooksMilliseconds))
            }
        }
    }

    private func judge(_ report: inout LagReport, _ facts: StandbyFacts, _ standby: Database) {
        if report.state == .stopped { return }
        if !facts.isInRecovery {
            report.state = .stopped
            report.lagSeconds = nil
            report.problem = "\(standby.name) is no standby: it is not in recovery"
        } else if facts.isReplayPaused {
            report.state = .paused
            report.problem = "\(standby.name) has paused its replay; SELECT pg_wal_replay_resume() lets it go on"
        } else if !facts.isStreaming {
            report.state = .notRunning
        } else {
            report.state = (report.lagBytes ?? 0) <= UInt64(direction.gates.maxLagBytes) ? .streaming : .catchingUp
        }
    }
}
