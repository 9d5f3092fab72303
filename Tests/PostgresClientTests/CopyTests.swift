import PostgresClient
import Testing

@Suite struct CopyTests {
    @Test func hundredThousandRowsGoOutAndInUnchanged() async throws {
        try await withConnection { connection async throws in
            try await connection.execute(
                """
                CREATE TABLE public.source (id int, name text, day date);
                INSERT INTO public.source SELECT n, 'guest ' || n, date '2026-01-01' + n % 365
                  FROM generate_series(1, 100000) AS n;
                CREATE TABLE public.target (LIKE public.source);
                """)
            try await connection.beginCopyOut("COPY public.source TO STDOUT (FORMAT binary)")
            var chunks: [[UInt8]] = []
            while let chunk = try await connection.readCopy(minimumBytes: 100_000) { chunks.append(chunk) }
            #expect(chunks.dropLast().allSatisfy { $0.count >= 100_000 })
            try await connection.beginCopyIn("COPY public.target FROM STDIN (FORMAT binary)")
            for chunk in chunks { try await connection.writeCopy(chunk) }
            #expect(try await connection.endCopyIn() == 100_000)
            let difference = try await connection.query(
                "SELECT count(*) FROM (TABLE public.source EXCEPT TABLE public.target) AS d")
            #expect(difference.firstValue == "0")
        }
    }

    @Test func largeChunkIsSentWhole() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a text)")
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(.init(repeating: 120, count: 30 << 20))
            try await connection.writeCopy([10])
            #expect(try await connection.endCopyIn() == 1)
            #expect(try await connection.query("SELECT length(a) FROM public.t").firstValue == "\(30 << 20)")
        }
    }

    @Test func emptyTableEndsAtOnce() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a text)")
            try await connection.beginCopyOut("COPY public.t TO STDOUT")
            #expect(try await connection.readCopy() == nil)
            #expect(try await connection.query("SELECT 1").firstValue == "1")
        }
    }

    @Test func badRowIsNamedByLineAndColumnWithoutItsValue() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (id int, phone int)")
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(Array("1\t2\n3\tsecret-phone\n".utf8))
            let error = await postgresError { try await connection.endCopyIn() }
            guard case .server(let refusal) = error else { throw TestFailure() }
            #expect(refusal.sqlState == SQLState("22P02"))
            #expect(refusal.copyLine == 2)
            #expect(refusal.column == "phone")
            #expect(!"\(refusal)".contains("secret-phone"))
            #expect(!String(reflecting: refusal).contains("secret-phone"))
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }

    @Test func copyThatFailsHalfWayOutThrowsTheServersError() async throws {
        try await withConnection { connection async throws in
            try await connection.beginCopyOut("COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 100000) n) TO STDOUT")
            let error = await postgresError {
                while try await connection.readCopy(minimumBytes: 1_000) != nil {}
            }
            #expect(error?.sqlState == SQLState("22012"))
            #expect(try await connection.query("SELECT 1").firstValue == "1")
        }
    }

    @Test func copyThatIsGivenUpLeavesNoRows() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            try await connection.writeCopy(Array("1\n".utf8))
            #expect(try await connection.endCopyIn(failing: "changed my mind") == 0)
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }

    @Test func callsThatDoNotFitACopyAreRefusedAndHarmNothing() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            #expect(await postgresError { try await connection.writeCopy([1]) } != nil)
            #expect(await postgresError { _ = try await connection.readCopy() } != nil)
            #expect(await postgresError { try await connection.endCopyIn() } != nil)
            #expect(await postgresError { try await connection.beginCopyIn("SELECT 1") } != nil)
            #expect(await postgresError { try await connection.beginCopyOut("COPY public.t FROM STDIN") } != nil)
            #expect(await postgresError { try await connection.beginCopyIn("COPY public.t TO STDOUT") } != nil)
            #expect(await postgresError { try await connection.execute("COPY public.t TO STDOUT") } != nil)
            #expect(await postgresError { try await connection.execute("COPY public.t FROM STDIN") } != nil)
            try await connection.beginCopyIn("COPY public.t FROM STDIN")
            #expect(await postgresError { _ = try await connection.query("SELECT 1") } != nil)
            try await connection.writeCopy(Array("5\n".utf8))
            #expect(try await connection.endCopyIn() == 1)
            #expect(await postgresError { try await connection.beginCopyOut("COPY nothing TO STDOUT") }?.sqlState
                == SQLState("42P01"))
            #expect(try await connection.query("SELECT a FROM public.t").firstValue == "5")
        }
    }
}
