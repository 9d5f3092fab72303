import Logging
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Old rows for the time in which services move.
@Suite struct FullIdentityTests {
    private static let schema = """
        CREATE TABLE public.plain (id int PRIMARY KEY, v int);
        CREATE TABLE public."Known" (id int PRIMARY KEY, code text NOT NULL);
        CREATE UNIQUE INDEX "byCode" ON public."Known" (code);
        ALTER TABLE public."Known" REPLICA IDENTITY USING INDEX "byCode";
        CREATE TABLE public.silent (v int);
        ALTER TABLE public.silent REPLICA IDENTITY NOTHING;
        CREATE TABLE public.whole (v int);
        ALTER TABLE public.whole REPLICA IDENTITY FULL;
        CREATE TABLE public.events (day int, v int, PRIMARY KEY (day, v)) PARTITION BY LIST (day);
        CREATE TABLE public.monday PARTITION OF public.events FOR VALUES IN (1);
        """
    private static let tables = ["plain", "Known", "silent", "whole", "events"].map { QualifiedName(schema: "public", name: $0) }
    private static let state = """
        SELECT string_agg(relname || ' ' || relreplident::text, ', ' ORDER BY relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        """
    private static let before = "Known i, events d, monday d, plain d, silent n, whole f"

    private func connect() async throws -> (PostgresConnection, ConnectionOptions) {
        let options = ConnectionOptions(try await PostgresCluster.shared("source").createDatabase(prefix: "full"))
        let connection = try await PostgresConnection.connect(options)
        _ = try await connection.execute(Self.schema)
        _ = try await Migrator(connection: connection).migrate()
        return (connection, options)
    }

    @Test func whatWasThereComesBackPartitionsIncluded() async throws {
        let (connection, _) = try await connect()
        let identity = FullIdentity(name: "bot", connection: connection)
        #expect(try await identity.set(Self.tables).count == 5)
        #expect(try await connection.query(Self.state).firstValue == "Known f, events f, monday f, plain f, silent f, whole f")
        #expect(try await identity.set(Self.tables) == [])
        #expect(try await identity.missing(Self.tables) == [])
        // One that still needs it, and one that somebody has set otherwise since.
        _ = try await connection.execute("ALTER TABLE public.silent REPLICA IDENTITY DEFAULT; DROP INDEX public.\"byCode\"")
        #expect(try await identity.restore(except: [QualifiedName(schema: "public", name: "events")]).map(\.name) == ["Known", "plain"])
        #expect(try await connection.query(Self.state).firstValue == "Known d, events f, monday f, plain d, silent d, whole f")
        #expect(try await identity.restore().map(\.name) == ["events", "monday"])
        #expect(try await connection.query("SELECT count(*) FROM lindero.replica_identity").firstValue == "0")
        await connection.close()
    }

    @Test func takingLinderoDownPutsItBackToo() async throws {
        let (connection, _) = try await connect()
        _ = try await FullIdentity(name: "bot", connection: connection).set(Self.tables)
        _ = try await Migrator(connection: connection).migrateDown()
        #expect(try await connection.query(Self.state).firstValue == Self.before)
        await connection.close()
    }

    @Test func writersGetThroughWhileSomebodyHoldsTheTable() async throws {
        let (connection, options) = try await connect()
        let reader = try await PostgresConnection.connect(options)
        let writer = try await PostgresConnection.connect(options)
        _ = try await reader.execute("BEGIN; SELECT * FROM public.plain")
        async let changed = FullIdentity(name: "bot", connection: connection).set([Self.tables[0]])
        try await waitUntil("the change waits for the reader") {
            try await writer.query("SELECT 1 FROM pg_locks WHERE relation = 'public.plain'::regclass AND NOT granted").rowCount > 0
        }
        // Behind a change that waited on and on none of these would come.
        for number in 1...20 { _ = try await writer.query("INSERT INTO public.plain VALUES (\(number), 0)") }
        _ = try await reader.execute("COMMIT")
        #expect(try await changed == [Self.tables[0]])
        for session in [connection, reader, writer] { await session.close() }
    }

    @Test func aLongWaitIsTold() async throws {
        let (connection, options) = try await connect()
        let reader = try await PostgresConnection.connect(options)
        _ = try await reader.execute("BEGIN; SELECT * FROM public.plain")
        let log = LogLines()
        async let changed = FullIdentity(name: "bot", connection: connection, logger: Logger(label: "test") { _ in log }).set([Self.tables[0]])
        try await waitUntil("it says so") { log.lines.withLock { $0.contains("waiting for a lock") } }
        _ = try await reader.execute("COMMIT")
        #expect(try await changed == [Self.tables[0]])
        #expect(log.lines.withLock { $0.count { $0 == "waiting for a lock" } } == 1)
        for session in [connection, reader] { await session.close() }
    }

    @Test func aTableThatIsInUseAllTheTimeIsNamed() async throws {
        let (connection, options) = try await connect()
        let reader = try await PostgresConnection.connect(options)
        _ = try await reader.execute("BEGIN; SELECT * FROM public.plain")
        let identity = FullIdentity(name: "bot", connection: connection, lockMilliseconds: 10, limitMilliseconds: 100)
        do {
            _ = try await identity.set([Self.tables[0]])
            Issue.record("it was changed under a reader")
        } catch let failure as ReplicationFailure {
            let pid = try await reader.query("SELECT pg_backend_pid()::text").firstValue ?? ""
            #expect(failure.code == .tableInUse && failure.message.contains("held by pid \(pid) of postgres"), "\(failure)")
        }
        #expect(try await connection.query("SELECT count(*) FROM lindero.replica_identity").firstValue == "0")
        for session in [connection, reader] { await session.close() }
    }
}
