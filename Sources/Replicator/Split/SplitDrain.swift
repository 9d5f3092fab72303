import PostgresClient
import ReplicationCore

/// Waits until both sides of a split have everything that either had when the wait began, and each knows that of the other.
///
/// The second half is what lets ownership change afterwards: whatever still comes from a side was written in sight of all
/// that. It also means that nothing of it waits to be sent back.
public struct SplitDrain: Sendable {
    let settings: SplitSettings
    /// How long both may stand still.
    let stillMilliseconds: Int64

    public init(settings: SplitSettings, stillMilliseconds: Int64 = 30_000) {
        self.settings = settings
        self.stillMilliseconds = stillMilliseconds
    }

    /// Where both directions are: applied, and what the source had seen of the target there.
    private struct Positions: Equatable {
        var applied: LSN
        var seen: LSN
    }

    /// - Parameter show: told now and then how many bytes are on their way, from each side.
    /// - Throws: `SplitDrainError`; `PostgresError`.
    public func pass(show: (_ bytes: SidePair<UInt64>) -> Void = { _ in }) async throws {
        try await settings.withBoth { try await pass($0, show) }
    }

    private func pass(_ sides: SidePair<PostgresConnection>, _ show: (SidePair<UInt64>) -> Void) async throws {
        var ends = SidePair { _ in LSN.zero }
        for side in Side.allCases {
            // What was committed, and may be shown to nobody yet, is before it.
            ends[side] = try await Marker.position(on: sides[side]) ?? .zero
        }
        var schedule = WaitSchedule()
        var last: [Positions] = []
        var movedAt = Monotonic.milliseconds()
        while true {
            var found: [Positions] = []
            for side in Side.allCases {
                // Each sign also tells the other side how far this one has seen it.
                try await Marker.write(on: sides[side])
                found.append(try await positions(reading: side, on: sides[side.opposite]))
            }
            let now = SidePair(origin: found[0], other: found[1])
            let isPassed = Side.allCases.allSatisfy { side in
                now[side].applied >= ends[side] && now[side.opposite].seen >= ends[side]
            }
            if isPassed { return }
            show(SidePair { side in ends[side].lagBytes(behind: now[side].applied) })
            if found != last { movedAt = Monotonic.milliseconds() }
            last = found
            guard Monotonic.milliseconds() - movedAt < stillMilliseconds else {
                let behind = Side.allCases.first { now[$0].applied < ends[$0] } ?? .origin
                throw SplitDrainError.stuck(
                    direction: settings[reading: behind].name, waitedFor: ends[behind], shown: now[behind].applied)
            }
            try await Task.sleep(for: .milliseconds(max(20, schedule.nextMilliseconds())))
        }
    }

    private func positions(reading side: Side, on target: PostgresConnection) async throws -> Positions {
        let direction = settings[reading: side].name
        guard let progress = try await SplitProgressStore(connection: target, direction: direction).read() else {
            throw SplitDrainError.notBegun(direction: direction)
        }
        return Positions(applied: progress.appliedLSN, seen: progress.context.lsn)
    }
}

/// Why both sides of a split do not come to the same.
public enum SplitDrainError: Error, Sendable, Equatable, CustomStringConvertible {
    case notBegun(direction: String)
    /// The direction stands still before a position that its target must show first.
    case stuck(direction: String, waitedFor: LSN, shown: LSN)

    public var description: String {
        switch self {
        case .notBegun(let direction):
            "\(direction) is not part of a split that has begun."
        case .stuck(let direction, let lsn, let shown):
            "\(direction) does not get to \(lsn); it stands at \(shown). Run `lindero lag` to see why, and `lindero run` if nobody does."
        }
    }
}
