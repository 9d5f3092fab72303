import PostgresClient
import Testing

@Suite struct PipelineTests {
    private func statement(_ sql: String, _ parameters: [PostgresParameter] = []) -> PipelineStep {
        .query(sql: sql, parameters: parameters, parameterTypes: [])
    }

    @Test func tenThousandStatementsGiveTenThousandResults() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            let steps: [PipelineStep] =
                [.prepare(name: "add", sql: "INSERT INTO public.t VALUES ($1)", parameterTypes: [23])]
                + (0..<10_000).map { number in
                    .execute(name: "add", parameters: [.binary(bigEndian(Int32(number)))], binaryResult: false)
                }
            let results = try await connection.run(steps)
            #expect(results.count == 10_001)
            #expect(results.dropFirst().allSatisfy { $0.affectedRows == 1 })
            #expect(try await connection.query("SELECT sum(a) FROM public.t").firstValue == "49995000")
        }
    }

    @Test func errorInTheMiddleNamesItsStepAndUndoesTheRest() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int PRIMARY KEY)")
            let steps: [PipelineStep] = (0..<10_000).map { number in
                statement("INSERT INTO public.t VALUES ($1::int)", [.text("\(number == 5_000 ? 7 : number)")])
            }
            let error = await #expect(throws: PipelineError.self) { try await connection.run(steps) }
            #expect(error?.stepIndex == 5_000)
            guard case .server(let refusal) = error?.error else { throw TestFailure() }
            #expect(refusal.sqlState == SQLState("23505"))
            #expect(refusal.constraint == "t_pkey")
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }

    @Test func runsThatAreSentBehindOneAnotherAreAnsweredInOrder() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int PRIMARY KEY)")
            for value in ["(1)", "(2), (2)", "(3)"] {
                try connection.sendLent(
                    [statement("SELECT 1"), statement("INSERT INTO public.t VALUES \(value)")], patienceMilliseconds: 100, whileWaiting: {})
            }
            let early = await #expect(throws: PostgresError.self) { try await connection.query("SELECT 1") }
            guard case .protocolViolation = early else { throw TestFailure() }
            let answers = try (0..<3).map { _ in try connection.awaitLent(patienceMilliseconds: 100, whileWaiting: {}) }
            #expect(try answers[0].get().map(\.affectedRows) == [1, 1])
            #expect(throws: PipelineError.self) { try answers[1].get() }
            #expect(try answers[2].get().map(\.affectedRows) == [1, 1])
            #expect(throws: PostgresError.self, "none is to come") {
                try connection.awaitLent(patienceMilliseconds: 100, whileWaiting: {})
            }
            #expect(try connection.takeLent() == nil)
            #expect(try await connection.query("SELECT string_agg(a::text, ' ' ORDER BY a) FROM public.t").firstValue == "1 3")
        }
    }

    /// A deferred constraint refuses at the Sync, after every step's answer: that one's, not the next one's.
    @Test func whatIsRefusedAtItsSyncIsNotTheNextOnes() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            for value in [1, 1, 2] {
                try connection.sendLent(
                    [statement("INSERT INTO public.t VALUES (\(value))"), statement("SELECT 1")], patienceMilliseconds: 100, whileWaiting: {})
            }
            let answers = try (0..<3).map { _ in try connection.awaitLent(patienceMilliseconds: 100, whileWaiting: {}) }
            #expect(try answers[0].get().count == 2)
            let refusal = #expect(throws: PipelineError.self) { try answers[1].get() }
            #expect(refusal?.stepIndex == 2)
            #expect(try answers[2].get().count == 2)
            #expect(try await connection.query("SELECT string_agg(a::text, ' ' ORDER BY a) FROM public.t").firstValue == "1 2")
        }
    }

    /// Values in one block arrive as they are; text with a zero is refused, and nothing of it is sent.
    @Test func packedValuesArrive() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (n int, a bytea, b text, c text, d bytea, e text, f bytea)")
            let insert = "INSERT INTO public.t VALUES ($1, $2, $3, $4, $5, $6, $7)"
            _ = try await connection.run([.prepare(name: "i", sql: insert, parameterTypes: [23, 17, 25, 25, 17, 25, 17])])
            func values(_ number: Int32, text: [UInt8]) -> PackedParameters {
                var values = PackedParameters(count: 3, bytes: 10)
                values.append(.binary(bigEndian(number)))
                values.append(.binary([0, 1, 0]))
                values.append(.textBytes(text))
                values.append(.text(""))
                values.appendNull()
                return values
            }
            func step(_ number: Int32, _ text: [UInt8] = Array("ä".utf8)) -> PipelineStep {
                var step = PipelineStep.executePacked(name: "i", parameters: values(number, text: text))
                step.append([.null, .binary([])])
                return step
            }
            try connection.sendLent([step(1), step(2)], keepsResults: false, patienceMilliseconds: 100, whileWaiting: {})
            let failing: [PipelineStep] = [step(3), statement("SELECT 1/0"), step(4)]
            try connection.sendLent(failing, keepsResults: false, patienceMilliseconds: 100, whileWaiting: {})
            let answers = try (0..<2).map { _ in try connection.awaitLent(patienceMilliseconds: 100, whileWaiting: {}) }
            #expect(try answers[0].get().isEmpty)
            #expect(#expect(throws: PipelineError.self) { try answers[1].get() }?.stepIndex == 1)
            let refused = #expect(throws: PostgresError.self) {
                try connection.sendLent([step(5), step(6, [65, 0, 66])], patienceMilliseconds: 100, whileWaiting: {})
            }
            #expect(refused == .parameter(index: 3, problem: .zeroByteInText))
            let rows = try await connection.query("SELECT n, a, b, c = '', d IS NULL, e IS NULL, f = '' FROM public.t ORDER BY n").rows
            let found = rows.map { row in (0..<7).map { row[$0] ?? "NULL" }.joined(separator: " ") }
            #expect(found == ["1 \\x000100 ä t t t t", "2 \\x000100 ä t t t t"])
        }
    }

    /// What is on its way is given up together; whoever asks for an answer afterwards does not wait for one.
    @Test func anInterruptedRunTakesThoseBehindItAlong() async throws {
        try await withConnection { connection async throws in
            for _ in 1...16 {
                try connection.sendLent([statement("SELECT pg_sleep(600)")], patienceMilliseconds: 100, whileWaiting: {})
            }
            let cancelled = #expect(throws: PostgresError.self) {
                try connection.awaitLent(patienceMilliseconds: 10, whileWaiting: { connection.interrupt() })
            }
            guard case .cancelled = cancelled else { throw TestFailure() }
            #expect(throws: PostgresError.self) { try connection.awaitLent(patienceMilliseconds: 100, whileWaiting: {}) }
            #expect(try await connection.query("SELECT 1").firstValue == "1")
        }
    }

    @Test func fiftyMegabytesOfParametersArrive() async throws {
        try await withConnection { connection async throws in
            let chunk = [UInt8](repeating: 7, count: 5 << 20)
            let results = try await connection.run(
                (0..<10).map { _ in
                    .query(sql: "SELECT length($1)", parameters: [.binary(chunk)], parameterTypes: [17])
                })
            #expect(results.map(\.firstValue) == .init(repeating: "\(5 << 20)", count: 10))
        }
    }

    @Test func megabytesInBothDirectionsAtOnceDoNotBlockEachOther() async throws {
        try await withConnection { connection async throws in
            let chunk = [UInt8](repeating: 88, count: 1 << 20)
            let results = try await connection.run(
                (0..<30).map { _ in
                    .query(
                        sql: "SELECT $1 || repeat('y', 1048576)::bytea", parameters: [.binary(chunk)],
                        parameterTypes: [17])
                })
            #expect(results.count == 30)
            #expect(results.allSatisfy { $0.bytes(row: 0, column: 0)?.count == 2 + (4 << 20) })
        }
    }

    @Test func parameterThatCannotBeSentUndoesTheWholePipeline() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a text)")
            let error = await postgresError {
                _ = try await connection.run([
                    statement("INSERT INTO public.t VALUES ('a')"),
                    statement("INSERT INTO public.t VALUES ($1)", [.text("a\0b")]),
                ])
            }
            #expect(error == .parameter(index: 1, problem: .zeroByteInText))
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }

    @Test func transactionOfThePipelineIsTheCallersWhenItBeginsOne() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            _ = try await connection.run([statement("BEGIN"), statement("INSERT INTO public.t VALUES (1)")])
            let results = try await connection.run([statement("INSERT INTO public.t VALUES (2)"), statement("COMMIT")])
            #expect(results.map(\.commandTag) == ["INSERT 0 1", "COMMIT"])
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "2")
        }
    }

    /// The commit at the Sync is nobody's step.
    @Test func refusalAtTheCommitIsToldAndLeavesTheConnection() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            let steps = [1, 2, 1].map { statement("INSERT INTO public.t VALUES (\($0))") }
            let error = await #expect(throws: PipelineError.self) { try await connection.run(steps) }
            #expect(error?.stepIndex == 3)
            guard case .server(let refusal) = error?.error else { throw TestFailure() }
            #expect(refusal.sqlState == SQLState("23505"))
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
            let results = try await connection.run([statement("INSERT INTO public.t VALUES (4)")])
            #expect(results.count == 1)
        }
    }

    @Test func emptyPipelineDoesNothing() async throws {
        try await withConnection { connection async throws in
            #expect(try await connection.run([]).isEmpty)
            #expect(try await connection.run([statement("")]).count == 1)
        }
    }
}

struct TestFailure: Error {}
