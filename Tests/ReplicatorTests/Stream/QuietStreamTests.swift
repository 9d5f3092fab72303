import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// A direction without heartbeats.
@Suite struct QuietStreamTests {
    /// The state that the target has on record is what `status` of another process tells.
    @Test func withoutHeartbeatsAnIdleDirectionStreamsOnceItsBacklogHasCome() async throws {
        var replication = ReplicationSettings()
        replication.heartbeatMilliseconds = 0
        let pair = try await ReplicaPair("CREATE TABLE public.note (n int PRIMARY KEY)", replication: replication)
        _ = try await pair.source.execute("INSERT INTO public.note VALUES (1)")
        let holder = try await ReplicaPair.connect(pair.targetURL)
        _ = try await holder.execute("BEGIN; LOCK TABLE public.note")
        let recorded = "SELECT state FROM lindero.direction"
        try await pair.streaming { state in
            try await waitUntil("the backlog waits") {
                try await pair.target.query("SELECT 1 FROM pg_locks WHERE relation = 'public.note'::regclass AND NOT granted").rowCount > 0
            }
            // Its end was looked for by then, and not found.
            try await waitUntil("the slot was looked at") { state.snapshot().sourceLSN > .zero && state.snapshot().slot.isActive }
            #expect(state.phase == .catchingUp)
            #expect(try await pair.target.query(recorded).firstValue == "catching_up")
            _ = try await holder.execute("COMMIT")
            try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming }
            #expect(try await pair.target.query("SELECT count(*)::text FROM public.note").firstValue == "1")
            #expect(try await pair.target.query(recorded).firstValue == "streaming")
        }
        await holder.close()
    }
}
