import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// A direction that waits for a person or a server is behind, and says by how much.
@Suite struct StandstillTests {
    private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"
    private static let kilobytes = "INSERT INTO t (id, v) SELECT i, repeat('x', 100) FROM generate_series(1000, 1999) i"

    private func seconds(_ state: DirectionState) -> Double {
        state.snapshot().lag.lagSeconds(atMilliseconds: Monotonic.milliseconds()) ?? 0
    }

    private func expectBehind(_ pair: ReplicaPair, _ state: DirectionState) async throws {
        _ = try await pair.source.execute(Self.kilobytes)
        try await waitUntil("the bytes have grown") { state.snapshot().lag.lagBytes > 100_000 }
        try await waitUntil("the seconds have grown") { seconds(state) > 2 }
        let now = state.snapshot()
        #expect(now.slot.retainedWALBytes ?? 0 > 100_000 && !now.slot.isActive && now.lag.etaSeconds == nil)
    }

    private func caughtUp(_ state: DirectionState) async throws {
        try await waitUntil("it has caught up") { state.phase == .streaming && state.snapshot().lag.lagBytes < 100_000 && seconds(state) < 2 }
    }

    @Test func figuresGrowWhileADirectionIsPaused() async throws {
        let pair = try await ReplicaPair(Self.table)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'a')", state)
            _ = try await pair.source.execute("ALTER TABLE t ADD w int; INSERT INTO t VALUES (2, 'b', 3)")
            try await waitUntil("the direction is paused") { state.phase == .paused }
            try await expectBehind(pair, state)
            _ = try await pair.target.execute("ALTER TABLE t ADD w int")
            try await caughtUp(state)
        }
        try await pair.expectSame("SELECT count(*), sum(hashtext(t::text)::bigint) FROM t")
    }

    @Test func figuresGrowWhileTheTargetIsDown() async throws {
        let target = try await PostgresCluster.start(settings: [:])
        let pair = try await ReplicaPair(Self.table, targetCluster: target)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'a')", state)
            try await target.stop(mode: "immediate")
            try await waitUntil("the direction reconnects") { state.phase == .reconnecting }
            try await expectBehind(pair, state)
            try await target.restart()
            try await caughtUp(state)
        }
    }
}
