import PostgresClient
import TestSupport
import Testing

@Suite struct InterruptionTests {
    @Test func timeoutStopsTheStatementAndTheConnectionGoesOn() async throws {
        try await withConnection { connection async throws in
            let start = ContinuousClock.now
            let error = await postgresError {
                _ = try await connection.query("SELECT pg_sleep(30)", timeoutMilliseconds: 200)
            }
            #expect(error == .timeout(milliseconds: 200))
            #expect(.now - start < patient(.seconds(3)))
            #expect(try await connection.query("SELECT 1").firstValue == "1")
            let second = await postgresError {
                try await connection.execute("SELECT pg_sleep(30)", timeoutMilliseconds: 100)
            }
            #expect(second == .timeout(milliseconds: 100))
            #expect(try await connection.query("SELECT 2").firstValue == "2")
        }
    }

    @Test func cancelledTaskStopsTheStatementAndTheConnectionGoesOn() async throws {
        let database = try await TestDatabase()
        let (connection, observer) = (try await database.connect(), try await database.connect())
        for _ in 0..<5 {
            let task = Task { try await connection.query("SELECT pg_sleep(30)") }
            try await waitUntil("the statement runs") { try await sleepers(observer) == 1 }
            let start = ContinuousClock.now
            task.cancel()
            let error = await postgresError { _ = try await task.value }
            #expect(error == .cancelled)
            #expect(.now - start < patient(.seconds(2)))
            #expect(try await connection.query("SELECT 1").firstValue == "1")
            #expect(try await sleepers(observer) == 0)
        }
        await connection.close()
        await observer.close()
    }

    @Test func taskThatIsCancelledBeforehandSendsNothing() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE SEQUENCE public.s")
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await connection.query("SELECT nextval('public.s')")
            }
            let error = await postgresError { _ = try await task.value }
            #expect(error == .cancelled)
            #expect(try await connection.query("SELECT nextval('public.s')").firstValue == "1")
        }
    }

    @Test func cancelledTaskCanStillRollBack() async throws {
        try await withConnection { connection async throws in
            let task = Task {
                try await connection.execute("BEGIN; CREATE TABLE public.t ()")
                withUnsafeCurrentTask { $0?.cancel() }
                try await connection.rollback()
            }
            try await task.value
            #expect(try await connection.query("SELECT to_regclass('public.t')").firstValue == nil)
        }
    }

    @Test func pipelineIsCancelledInTheMiddleAndTheConnectionGoesOn() async throws {
        let database = try await TestDatabase()
        let (connection, observer) = (try await database.connect(), try await database.connect())
        try await connection.execute("CREATE TABLE public.t (a int)")
        let task = Task {
            try await connection.run([
                .query(sql: "INSERT INTO public.t VALUES (1)", parameters: [], parameterTypes: []),
                .query(sql: "SELECT pg_sleep(30)", parameters: [], parameterTypes: []),
                .query(sql: "INSERT INTO public.t VALUES (2)", parameters: [], parameterTypes: []),
            ])
        }
        try await waitUntil("the pipeline runs") { try await sleepers(observer) == 1 }
        task.cancel()
        let error = await postgresError { _ = try await task.value }
        #expect(error == .cancelled)
        #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        await connection.close()
        await observer.close()
    }

    @Test func pipelineIsCancelledWhileItStillSends() async throws {
        let database = try await TestDatabase()
        let (connection, observer) = (try await database.connect(), try await database.connect())
        let megabyte = PostgresParameter.binary(.init(repeating: 65, count: 1 << 20))
        let task = Task {
            try await connection.run(
                [.query(sql: "SELECT pg_sleep(30)", parameters: [], parameterTypes: [])]
                    + (0..<40).map { _ in
                        .query(sql: "SELECT length($1)", parameters: [megabyte], parameterTypes: [17])
                    })
        }
        try await waitUntil("the pipeline runs") { try await sleepers(observer) == 1 }
        task.cancel()
        let error = await postgresError { _ = try await task.value }
        #expect(error == .cancelled)
        #expect(try await connection.query("SELECT 1").firstValue == "1")
        await connection.close()
        await observer.close()
    }

    @Test func copiesAreCancelledInTheMiddleAndTheConnectionGoesOn() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            try await connection.beginCopyOut(
                """
                COPY (SELECT repeat('x', 1000), CASE WHEN n > 100 THEN pg_sleep(30) END
                  FROM generate_series(1, 200) AS n) TO STDOUT
                """)
            #expect(try await connection.readCopy(minimumBytes: 1) != nil)
            let reading = Task { try await connection.readCopy() }
            reading.cancel()
            #expect(await postgresError { _ = try await reading.value } == .cancelled)
            #expect(try await connection.query("SELECT 1").firstValue == "1")
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(Array("1\n2\n".utf8))
            let writing = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                try await connection.writeCopy(Array("3\n".utf8))
            }
            #expect(await postgresError { _ = try await writing.value } == .cancelled)
            #expect(try await connection.endCopyIn(failing: "the test wants so") == 0)
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }

    @Test func serverThatDoesNotStopLosesTheConnectionWithinSeconds() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let connection = try await PostgresConnection.connect(ConnectionOptions(cluster.conninfo()))
        let processID = try #require(
            try await connection.query("SELECT pg_backend_pid()").firstValue.flatMap { Int32($0) })
        signalStop(processID)
        defer { signalContinue(processID) }
        let start = ContinuousClock.now
        let error = await postgresError {
            _ = try await connection.query("SELECT 1", timeoutMilliseconds: 100)
        }
        #expect(error == .timeout(milliseconds: 100))
        #expect(.now - start < patient(.seconds(5)))
        #expect(await connection.isAlive == false)
        let next = await postgresError { _ = try await connection.query("SELECT 1") }
        #expect(next == .closed("the server did not stop a statement that was cancelled"))
    }

    /// PostgreSQL drops a request to cancel that reaches a backend before it has read the statement; it must be repeated.
    @Test func statementThatBeginsAfterTheRequestToCancelItIsStoppedToo() async throws {
        let database = try await TestDatabase()
        var survivals = 0
        // On a machine that is too busy to let the server answer within the grace period, again.
        for _ in 0..<5 where survivals == 0 {
            let connection = try await database.connect()
            let backend = try #require(
                try await connection.query("SELECT pg_backend_pid()").firstValue.flatMap { Int32($0) })
            signalStop(backend)
            defer { signalContinue(backend) }
            let task = Task { try await connection.query("SELECT pg_sleep(60)", timeoutMilliseconds: 50) }
            try await waitUntil("the request has come") { try hasPendingInterrupt(backend) }
            signalContinue(backend)
            #expect(await postgresError { _ = try await task.value } == .timeout(milliseconds: 50))
            if await connection.isAlive {
                #expect(try await connection.query("SELECT 1").firstValue == "1")
                survivals += 1
            }
            await connection.close()
        }
        #expect(survivals == 1)
    }

    @Test func manyRapidCancellationsNeverHitALaterStatement() async throws {
        try await withConnection { connection async throws in
            for round in 0..<60 {
                let task = Task { try await connection.query("SELECT pg_sleep(0.02)") }
                try await Task.sleep(for: .microseconds(round * 500))
                task.cancel()
                _ = await task.result
                #expect(try await connection.query("SELECT pg_sleep(0.005), \(round)").rows[0][1] == "\(round)")
            }
        }
    }

    private func sleepers(_ observer: PostgresConnection) async throws -> Int {
        let result = try await observer.query(
            """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()
            """)
        return Int(result.firstValue ?? "") ?? -1
    }
}
