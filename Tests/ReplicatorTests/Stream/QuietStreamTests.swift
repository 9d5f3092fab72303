import Glibc
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

    /// The source tells a position once. Its background processes would make it tell another one, sooner or later.
    @Test func withoutHeartbeatsTheLastPositionOfASilentSourceIsRecorded() async throws {
        // A background writer that sleeps nearly all the time is not stopped with a lock in its hands.
        let source = try await PostgresCluster.start(settings: ["autovacuum": "off", "bgwriter_delay": "10s"])
        defer { source.remove() }
        var replication = ReplicationSettings()
        replication.heartbeatMilliseconds = 0
        let pair = try await ReplicaPair("CREATE TABLE public.note (n int PRIMARY KEY)", replication: replication, source: source)
        let writer = try #require(
            try await pair.source.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'").firstValue.flatMap { pid_t($0) })
        #expect(kill(writer, SIGSTOP) == 0)
        defer { kill(writer, SIGCONT) }
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.note VALUES (1)", state)
            // Nothing of it is published.
            try await pair.apply("CREATE TABLE public.other (n int)", state)
            let recorded = try await pair.target.query("SELECT applied_lsn::text FROM lindero.direction").firstValue
            #expect(recorded.flatMap { LSN($0) } == state.appliedLSN)
            try await waitUntil("the slot keeps nothing of it") {
                try await pair.source.query(
                    "SELECT 1 FROM pg_replication_slots WHERE slot_name = '\(pair.slot)' AND confirmed_flush_lsn >= '\(state.appliedLSN)'"
                ).rowCount == 1
            }
        }
    }
}
