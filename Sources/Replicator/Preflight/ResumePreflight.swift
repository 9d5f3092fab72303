import PostgresClient
import ReplicationCore

/// Looks at a direction that has begun as its worker does before it goes on: is the source still the one, and has the slot
/// what comes next?
public struct ResumePreflight: Sendable {
    let settings: DirectionSettings

    public init(settings: DirectionSettings) { self.settings = settings }

    /// What would stop the worker at once; nothing of a direction that is yet to begin, or that cannot be looked at:
    /// the rest of the preflight tells why.
    public func findings() async -> [PreflightFinding] {
        // An adopted slot is looked at where its adoption is.
        guard settings.replication.slot == nil, settings.backend != .shared else { return [] }
        do {
            try await PostgresConnection.with(settings.target) { target in
                guard try await target.hasLindero("direction"), let known = try await DirectionRecord(connection: target, settings: settings).read(),
                    known.startLSN != .zero, known.isPrepared
                else { return }
                try await PostgresConnection.with(settings.source) { source in
                    try await look(SourceCheck(settings: settings, connection: source), known, target)
                }
            }
        } catch let failure as ReplicationFailure where failure.isBlocker {
            return [
                PreflightFinding(
                    .blocker, .of(failure), database: settings.sourceName, object: settings.slot, "\(settings.name): \(failure.message)",
                    fix: failure.nextStep)
            ]
        } catch {}
        return []
    }

    private func look(_ check: SourceCheck, _ known: DirectionRecord.Row, _ target: PostgresConnection) async throws {
        if settings.backend == .replica, known.isSplit { throw DirectionSupervisor.splitHasBegun(settings) }
        try check.requireSame(try await check.systemIdentifier(), known: known.systemIdentifier)
        try check.requireNotAhead(known)
        try await check.verifyPublication()
        if PublicationCover.isOwn(settings) {
            // What has come since is yet to be published.
            let copied = try await TableCopyState.read(target, direction: settings.name).keys.filter(settings.includes)
            try await PublicationCover.read(settings, on: check.connection)?.require(copied, on: check.connection)
        }
        let slot = try await check.slot(allowsTwoPhase: true)
        // Each side of a split has more than one place to look for its progress.
        guard settings.backend == .replica else { return }
        // Read after the slot: what a running worker confirms, the target has.
        let row = try await target.query(
            "SELECT applied_lsn::text FROM lindero.direction WHERE name = $1", [.text(settings.name)])
        guard let applied = row.firstValue.flatMap({ LSN($0) }) else { return }
        let reached = max(applied, known.startLSN)
        try await check.verify(slot: slot, appliedLSN: reached)
        try await LeftTables(settings: settings, target: target).requireNone()
        try await LeftColumns(settings: settings, target: target).requireNone()
        try await ReplicationConnection.with(settings.source) { stream in
            _ = try await check.verifyTimeline(stream, known: known.timeline, appliedLSN: reached)
        }
    }
}

/// The same for what both directions of a split have carried so far.
public struct SplitResumePreflight: Sendable {
    let settings: SplitSettings

    public init(settings: SplitSettings) { self.settings = settings }

    public func findings() async -> [PreflightFinding] {
        do {
            let hasBegun = try await PostgresConnection.with(settings.options(.other)) { other in
                try await SplitMembers(settings: settings, other: other).requireNone()
                guard try await other.hasLindero("direction") else { return false }
                return try await SplitProgressStore(connection: other, direction: settings[reading: .origin].name).read() != nil
            }
            return hasBegun ? try await gaps() : await CopyPreflight(settings: settings.copy).findings()
        } catch let failure as ReplicationFailure where failure.isBlocker {
            return [PreflightFinding(.blocker, .of(failure), database: settings.name(.other), failure.message, fix: failure.nextStep)]
        } catch {}
        return []
    }

    /// Slots that somebody has advanced or made anew. One that is missing is told where its direction is looked at.
    private func gaps() async throws -> [PreflightFinding] {
        try await settings.withBoth { sides in
            try await SplitIdentity(forward: settings[reading: .origin], sides: sides).require()
            var findings: [PreflightFinding] = []
            for side in Side.allCases {
                let failure = try await SlotGapReader(settings: settings, side: side, sides: sides).failure().0
                guard let failure, failure.code == .slotRecreated else { continue }
                findings.append(
                    PreflightFinding(
                        .blocker, .slotRecreated, database: settings.name(side), object: settings[reading: side].slot, failure.message,
                        fix: failure.nextStep))
            }
            return findings
        }
    }
}

extension PreflightFinding.Code {
    static func of(_ failure: ReplicationFailure) -> PreflightFinding.Code {
        PreflightFinding.Code(rawValue: failure.code.rawValue) ?? .slotMissing
    }
}
