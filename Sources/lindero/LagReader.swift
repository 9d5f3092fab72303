import PostgresClient
import ReplicationCore
import Replicator

/// Reads a direction's lag from its databases: the target first, so that lag is never told too small.
struct LagReader: Sendable {
    let direction: LagDirection

    func read() async throws -> LagReport {
        switch direction.kind {
        case .feed: return try await feed()
        case .replica(let target): return try await replica(target)
        case .standby(let standby): return try await self.standby(standby)
        }
    }

    private func feed() async throws -> LagReport {
        var report = LagReport(name: direction.name)
        report.slot = direction.slot
        let source = try await readSource(heartbeatSentAt: nil)
        fill(&report, source)
        guard source.hasSlot else {
            if source.walLevel != "logical" {
                report.problem = "wal_level = \(source.walLevel), so there is no change feed; set wal_level = logical"
            }
            return report
        }
        report.appliedLSN = source.confirmedLSN
        report.state = running(report, source)
        report.lagSeconds = seconds(report, ageMilliseconds: source.replyAgeMilliseconds)
        return report
    }

    private func replica(_ target: Database) async throws -> LagReport {
        var report = LagReport(name: direction.name)
        report.slot = direction.slot
        var known = TargetFacts()
        do {
            known = try await target.connected { try await TargetFacts.read($0, direction: direction.name) }
        } catch let failure as CommandFailure {
            report.problem = "\(failure.message) (\(failure.place ?? target.name))"
        }
        let source = try await readSource(heartbeatSentAt: known.heartbeatSentAt)
        fill(&report, source)
        // The slot knows of positions without data; the origin knows of data whose report has not arrived yet.
        report.appliedLSN = [known.appliedLSN, source.confirmedLSN].compactMap { $0 }.max()
        report.problem = report.problem ?? known.problem
        report.state = state(report, source, known)
        if report.state == .copying, var copied = known.copied {
            try await direction.source.connected { try await copied.expect(known.publication, of: $0) }
            report.copied = copied
        }
        report.endToEnd = known.endToEnd
        report.rowsPerSecond = source.isActive ? known.rowsPerSecond : nil
        report.lagSeconds = seconds(report, ageMilliseconds: source.heartbeatAgeMilliseconds)
        return report
    }

    func fill(_ report: inout LagReport, _ source: SourceFacts) {
        report.sourceLSN = source.currentLSN
        guard source.hasSlot else { return }
        report.receivedLSN = source.receivedLSN
        report.retainedWALBytes = source.retainedWALBytes
        report.safeWALBytes = source.safeWALBytes
        report.isSlotActive = source.isActive
        if let open = source.slotWaitsFor, !open.isEmpty {
            report.problem = "Slot \(direction.slot ?? "") is being made, which waits until transactions that are open on \(direction.source.name) end: "
                + open.joined(separator: "; ") + "."
        }
        if source.walStatus == "lost" {
            report.state = .stopped
            report.problem = "Slot \(direction.slot ?? "") was invalidated: WAL that it needed is gone."
        }
    }

    private func state(_ report: LagReport, _ source: SourceFacts, _ known: TargetFacts) -> LagReport.State {
        if known.state == DirectionPhase.stopped.rawValue && !source.isActive { return .stopped }
        if known.state == DirectionPhase.paused.rawValue { return .paused }
        if known.isRegistered && direction.copiesFirst && !known.isPrepared { return .copying }
        if direction.registersFirst && !known.isPrepared { return .notStarted }
        guard source.hasSlot else { return known.isRegistered ? .stopped : .notStarted }
        return running(report, source)
    }

    func running(_ report: LagReport, _ source: SourceFacts) -> LagReport.State {
        if report.state == .stopped { return .stopped }
        guard source.isActive else { return .notRunning }
        // Nothing has ever been confirmed: the slot is being made, and waits for transactions to end.
        guard let bytes = report.lagBytes else { return .notStarted }
        return bytes <= UInt64(direction.gates.maxLagBytes) ? .streaming : .catchingUp
    }

    /// A sign of life is at most one interval old when nothing is behind, so only the age beyond it is lag. Both
    /// moments are the source's own, so the clocks of other machines play no part.
    private func seconds(_ report: LagReport, ageMilliseconds: Double?) -> Double? {
        if report.lagBytes == 0 { return 0 }
        guard direction.heartbeatMilliseconds > 0, let ageMilliseconds else { return nil }
        return max(0, ageMilliseconds - Double(direction.heartbeatMilliseconds)) / 1_000
    }

    func readSource(heartbeatSentAt: String?) async throws -> SourceFacts {
        try await direction.source.connected { connection in
            try await SourceFacts.read(connection, slot: direction.slot, sentAt: heartbeatSentAt)
        }
    }
}
