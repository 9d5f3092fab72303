import PostgresClient
import TestSupport
import Testing

/// Calls that are interrupted while they really wait: for a server that never answers, or that does not read or write on.
@Suite struct BlockedCallTests {
    @Test func serverThatNeverAnswersIsGivenUpInTime() async throws {
        let hole = try BlackHole()
        for mode in ["disable", "prefer"] {
            let options = ConnectionOptions(hole.conninfo("connect_timeout=1 sslmode=\(mode)"))
            let start = ContinuousClock.now
            let error = await postgresError { try await PostgresConnection.connect(options).close() }
            guard case .connection(let failure) = error else { throw TestFailure() }
            #expect(failure.reason == .timedOut)
            #expect(failure.message == "no answer within 1 s")
            #expect(failure.description.contains("127.0.0.1:\(hole.port)"))
            #expect(failure.isTransient)
            #expect(.now - start > .milliseconds(900))
            #expect(.now - start < patient(.seconds(30)))
        }
    }

    @Test func connectingToAServerThatNeverAnswersIsCancelled() async throws {
        for isReplication in [false, true] {
            let hole = try BlackHole()
            let options = ConnectionOptions(hole.conninfo("connect_timeout=0"))
            let task = Task {
                if isReplication {
                    try await ReplicationConnection.connect(options).close()
                } else {
                    try await PostgresConnection.connect(options).close()
                }
            }
            try await waitUntil("the client has connected") { hole.hasGuest }
            task.cancel()
            #expect(await postgresError { try await task.value } == .cancelled)
        }
    }

    @Test func copyInIsCancelledWhileTheServerDoesNotRead() async throws {
        let (connection, observer) = try await blockedTable()
        let task = Task {
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            // More than every buffer on the way takes: the call waits for the server.
            try await connection.writeCopy(Self.manyRows)
        }
        try await waitUntil("the copy sleeps") { try await sleepers(observer) == 1 }
        task.cancel()
        #expect(await postgresError { try await task.value } == .cancelled)
        #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        #expect(try await sleepers(observer) == 0)
        await connection.close()
        await observer.close()
    }

    @Test func endOfACopyInIsCancelledWhileTheServerWorks() async throws {
        let (connection, observer) = try await blockedTable()
        let task = Task {
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(Array("1\n".utf8))
            return try await connection.endCopyIn()
        }
        try await waitUntil("the copy sleeps") { try await sleepers(observer) == 1 }
        task.cancel()
        #expect(await postgresError { _ = try await task.value } == .cancelled)
        #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        await connection.close()
        await observer.close()
    }

    @Test func copyOutIsCancelledWhileTheServerWritesNothing() async throws {
        let (connection, observer) = try await blockedTable()
        let task = Task {
            try await connection.beginCopyOut(Self.sleepingCopyOut)
            while try await connection.readCopy(minimumBytes: 1 << 20) != nil {}
        }
        try await waitUntil("the copy sleeps") { try await sleepers(observer) == 1 }
        task.cancel()
        #expect(await postgresError { try await task.value } == .cancelled)
        #expect(try await connection.query("SELECT 1").firstValue == "1")
        #expect(try await sleepers(observer) == 0)
        await connection.close()
        await observer.close()
    }

    /// The server's own `statement_timeout` is its error, not our deadline, and the connection goes on.
    @Test func statementTimeoutOfTheServerEndsCopiesAndPipelines() async throws {
        let (connection, observer) = try await blockedTable()
        try await connection.execute("SET statement_timeout = '200ms'")
        let out = await postgresError {
            try await connection.beginCopyOut(Self.sleepingCopyOut)
            while try await connection.readCopy() != nil {}
        }
        #expect(out?.sqlState == SQLState("57014"))
        let into = await postgresError {
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(Self.manyRows)
            try await connection.endCopyIn()
        }
        #expect(into?.sqlState == SQLState("57014"))
        try await connection.execute("SET statement_timeout = '2s'")
        let pipeline = await #expect(throws: PipelineError.self) {
            try await connection.run(
                ["SELECT 1", "SELECT pg_sleep(60)", "SELECT 2"].map {
                    .query(sql: $0, parameters: [], parameterTypes: [])
                })
        }
        #expect(pipeline?.stepIndex == 1)
        #expect(pipeline?.error.sqlState == SQLState("57014"))
        try await connection.execute("SET statement_timeout = 0")
        #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        await connection.close()
        await observer.close()
    }

    /// Neither the statement nor the request to cancel it is answered.
    @Test func machineThatHangsLosesTheConnectionWithinSeconds() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let connection = try await PostgresConnection.connect(ConnectionOptions(cluster.conninfo()))
        let pids = try await connection.query(
            "SELECT pg_backend_pid(), split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        let processes = (0..<2).compactMap { pids.rows[0][$0].flatMap { Int32($0) } }
        #expect(processes.count == 2)
        for process in processes { signalStop(process) }
        defer { for process in processes { signalContinue(process) } }
        let start = ContinuousClock.now
        let error = await postgresError {
            _ = try await connection.query("SELECT 1", timeoutMilliseconds: 100)
        }
        #expect(error == .timeout(milliseconds: 100))
        #expect(.now - start < patient(.seconds(20)))
        #expect(await connection.isAlive == false)
        let fresh = await postgresError {
            try await PostgresConnection.connect(ConnectionOptions(cluster.conninfo() + "?connect_timeout=1")).close()
        }
        guard case .connection(let failure) = fresh else { throw TestFailure() }
        #expect(failure.reason == .timedOut)
    }

    // MARK: helpers

    /// Empty texts, one a line.
    private static let manyRows = [UInt8](repeating: 10, count: 32 << 20)

    private static let sleepingCopyOut = """
        COPY (SELECT CASE WHEN n > 100 THEN pg_sleep(60) END, repeat('x', 1000) FROM generate_series(1, 200) AS n)
        TO STDOUT
        """

    /// A table where the first row that comes in sleeps.
    private func blockedTable() async throws -> (connection: PostgresConnection, observer: PostgresConnection) {
        let database = try await TestDatabase()
        let connection = try await database.connect()
        try await connection.execute(
            """
            CREATE TABLE public.t (a text);
            CREATE FUNCTION public.nap() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN PERFORM pg_catalog.pg_sleep(60); RETURN NEW; END $$;
            CREATE TRIGGER nap BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.nap();
            """)
        return (connection, try await database.connect())
    }

    private func sleepers(_ observer: PostgresConnection) async throws -> Int {
        let result = try await observer.query(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()
            """)
        return Int(result.firstValue ?? "") ?? -1
    }
}
