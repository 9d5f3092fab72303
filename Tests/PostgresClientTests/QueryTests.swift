import PostgresClient
import Testing

@Suite struct QueryTests {
    @Test func parametersOfEveryKindArriveUnchanged() async throws {
        try await withConnection { connection async throws in
            let result = try await connection.query(
                "SELECT $1::text, $2::text, $3::int4, $4::bytea, $5::bytea IS NULL, $6::bytea = ''",
                [
                    .text("Doña \"Ana\" \\ 'x'"), .textBytes(Array("ñ".utf8)), .binary(bigEndian(Int32(-7))),
                    .binary([0, 1, 255, 0]), .null, .binary([]),
                ])
            #expect(result.columns.count == 6)
            #expect(result.rows[0][0] == "Doña \"Ana\" \\ 'x'")
            #expect(result.rows[0][1] == "ñ")
            #expect(result.rows[0][2] == "-7")
            #expect(result.rows[0][3] == "\\x0001ff00")
            #expect(result.rows[0][4] == "t")
            #expect(result.rows[0][5] == "t")
        }
    }

    @Test func threeHundredBinaryParametersArriveUnchanged() async throws {
        try await withConnection { connection async throws in
            let list = (1...300).map { "$\($0)::int8" }.joined(separator: "+")
            let result = try await connection.query(
                "SELECT \(list)", (1...300).map { .binary(bigEndian(Int64($0))) })
            #expect(result.firstValue == "45150")
        }
    }

    @Test func binaryResultGivesTheTypesBinaryForm() async throws {
        try await withConnection { connection async throws in
            let result = try await connection.query("SELECT 258::int4, NULL::text", binaryResult: true)
            #expect(result.bytes(row: 0, column: 0) == [0, 0, 1, 2])
            #expect(result.bytes(row: 0, column: 1) == nil)
        }
    }

    @Test func textThatATriggerRaisesIsHiddenWhateverItsCode() async throws {
        try await withConnection { connection async throws in
            _ = try await connection.execute(
                """
                CREATE FUNCTION pg_temp.complain() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                  RAISE 'phone +34 600' USING ERRCODE = '42501', DETAIL = 'phone +34 600', HINT = 'phone +34 600'; END $$
                """)
            do {
                _ = try await connection.query("SELECT pg_temp.complain()")
                Issue.record("it was not refused")
            } catch PostgresError.server(let error) {
                #expect(error.sourceFunction == "exec_stmt_raise")
                #expect(!String(reflecting: error).contains("600") && !"\(error)".contains("600"))
                #expect("\(error)".contains("insufficient_privilege") && "\(error)".contains("complain() line 2 at RAISE"))
            }
            await #expect(throws: PostgresError.server(ServerError(sqlState: SQLState("55000"), message: "known words"))) {
                do {
                    _ = try await connection.execute("DO $$ BEGIN RAISE 'known words' USING ERRCODE = '55000'; END $$")
                } catch PostgresError.server(let error) {
                    throw PostgresError.server(ServerError(sqlState: error.sqlState, message: error.message))
                }
            }
        }
    }

    /// What a function raises or runs may be made of a row's values, names of objects included.
    @Test(arguments: [
        "RAISE 'x' USING ERRCODE = '42501', COLUMN = v, CONSTRAINT = v, TABLE = v, SCHEMA = v, DATATYPE = v;", "EXECUTE 'SELECT ' || quote_ident(v);",
        "EXECUTE v;", "EXECUTE 'CREATE TABLE pg_temp.' || quote_ident(v) || ' (a int); CREATE TABLE pg_temp.' || quote_ident(v) || ' (a int)';",
        "PERFORM 1 FROM pg_catalog.pg_class WHERE relname = v; EXECUTE 'SELECT 1 FROM ' || quote_ident(v);",
    ]) func valuesDoNotShowInWhatAFunctionDoesWithThem(_ body: String) async throws {
        try await withConnection { connection async throws in
            _ = try await connection.execute("CREATE FUNCTION pg_temp.leak(v text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \(body) END $$")
            do {
                _ = try await connection.query("SELECT pg_temp.leak($1)", [.text("secret 600")])
                Issue.record("it was not refused")
            } catch PostgresError.server(let error) {
                let text = String(reflecting: error) + "\(error)"
                #expect(!text.contains("600"), "\(text)")
            }
        }
    }

    @Test func zeroByteInTextIsRefusedInsteadOfCuttingTheValue() async throws {
        try await withConnection { connection async throws in
            for parameter in [PostgresParameter.text("a\0b"), .textBytes([97, 0, 98])] {
                let error = await postgresError {
                    _ = try await connection.query("SELECT $1::text", [.null, parameter])
                }
                #expect(error == .parameter(index: 2, problem: .zeroByteInText))
            }
            #expect(try await connection.query("SELECT 1").firstValue == "1")
        }
    }

    @Test func tooManyParametersAreRefused() async throws {
        try await withConnection { connection async throws in
            let error = await postgresError {
                _ = try await connection.query("SELECT 1", .init(repeating: .null, count: 65_536))
            }
            #expect(error == .parameter(index: 0, problem: .tooMany(count: 65_536)))
        }
    }

    @Test func scriptRunsManyStatementsAndGivesTheLastResult() async throws {
        try await withConnection { connection async throws in
            let result = try await connection.execute(
                "CREATE TABLE public.t (a int); INSERT INTO public.t SELECT generate_series(1, 5); UPDATE public.t SET a = a + 1 WHERE a > 2")
            #expect(result.affectedRows == 3)
            #expect(result.commandTag == "UPDATE 3")
            #expect(result.rowCount == 0)
        }
    }

    @Test func preparedStatementRuns() async throws {
        try await withConnection { connection async throws in
            try await connection.prepare("double", "SELECT $1 * 2", parameterTypes: [23])
            let results = try await connection.run([
                .execute(name: "double", parameters: [.binary(bigEndian(Int32(21)))], binaryResult: false)
            ])
            #expect(results.map(\.firstValue) == ["42"])
        }
    }

    @Test func sessionSettingsArePinnedWhateverTheDatabaseSays() async throws {
        let database = try await TestDatabase()
        let first = try await database.connect()
        let name = try await first.query("SELECT current_database()").firstValue ?? ""
        try await first.execute(
            """
            ALTER DATABASE "\(name)" SET datestyle = 'German';
            ALTER DATABASE "\(name)" SET timezone = 'Europe/Madrid';
            ALTER DATABASE "\(name)" SET extra_float_digits = -5;
            ALTER DATABASE "\(name)" SET bytea_output = 'escape';
            ALTER DATABASE "\(name)" SET intervalstyle = 'iso_8601';
            ALTER DATABASE "\(name)" SET search_path = 'public';
            ALTER DATABASE "\(name)" SET default_transaction_read_only = on;
            ALTER DATABASE "\(name)" SET statement_timeout = '10s';
            ALTER DATABASE "\(name)" SET standard_conforming_strings = off;
            """)
        await first.close()
        let connection = try await database.connect()
        let row = try await connection.query(
            """
            SELECT timestamptz '2026-01-02 03:04:05+00', 0.1::float8 + 0.2, bytea '\\x01',
                   interval '1 day 2 hours', current_setting('search_path'),
                   current_setting('transaction_read_only'), current_setting('statement_timeout')
            """
        ).rows[0]
        #expect(row[0] == "2026-01-02 03:04:05+00")
        #expect(row[1] == "0.30000000000000004")
        #expect(row[2] == "\\x01")
        #expect(row[3] == "1 day 02:00:00")
        #expect(["", "\"\""].contains(row[4]))
        #expect(row[5] == "off")
        #expect(row[6] == "0")
        await connection.close()
    }

    @Test func ownSettingsComeAfterThePinnedOnes() async throws {
        var options = ConnectionOptions(try await TestDatabase().conninfo)
        options.settings = [("statement_timeout", "1234ms"), ("lindero.note", "it's \\ here"), ("search_path", "a, b")]
        options.applicationName = "test of settings"
        let connection = try await PostgresConnection.connect(options)
        let row = try await connection.query(
            """
            SELECT current_setting('statement_timeout'), current_setting('lindero.note'),
                   current_setting('application_name'), current_setting('search_path')
            """
        ).rows[0]
        #expect((0..<4).map { row[$0] } == ["1234ms", "it's \\ here", "test of settings", "a, b"])
        await connection.close()
    }

    @Test func namedColumnsCanBeRead() async throws {
        try await withConnection { connection async throws in
            let result = try await connection.query(#"SELECT 1 AS "lastBotInteraction", NULL AS b"#)
            #expect(result.rows[0]["lastBotInteraction"] == "1")
            #expect(result.rows[0]["b"] == nil)
            #expect(result.columns == ["lastBotInteraction", "b"])
        }
    }

    @Test func rowsWithoutColumnsAreCounted() async throws {
        try await withConnection { connection async throws in
            let sql = "SELECT FROM generate_series(1, 3)"
            let results = [
                try await connection.query(sql), try await connection.query(sql, binaryResult: true),
                try await connection.execute(sql),
                try await connection.run([.query(sql: sql, parameters: [], parameterTypes: [])])[0],
            ]
            #expect(results.map(\.rowCount) == [3, 3, 3, 3])
            #expect(results.allSatisfy { $0.columns.isEmpty && $0.rows.count == 3 && $0.firstValue == nil })
            #expect(results.allSatisfy { $0.rows.allSatisfy { $0["anything"] == nil } })
        }
    }

    @Test func callsOnAClosedConnectionSayThatItIsClosed() async throws {
        try await withConnection { connection async throws in
            await connection.close()
            let error = await postgresError { _ = try await connection.query("SELECT 1") }
            #expect(error == .closed("it was closed before"))
            #expect(await connection.isAlive == false)
            await connection.close()
        }
    }

    @Test func noticesGoToTheHandler() async throws {
        let (stream, continuation) = AsyncStream.makeStream(of: ServerError.self)
        var options = ConnectionOptions(try await TestDatabase().conninfo)
        options.noticeHandler = { continuation.yield($0) }
        let connection = try await PostgresConnection.connect(options)
        try await connection.execute("DROP TABLE IF EXISTS public.nothing")
        await connection.close()
        continuation.finish()
        var notices: [String] = []
        for await notice in stream { notices.append(notice.severity + " " + notice.message) }
        #expect(notices == ["NOTICE table \"nothing\" does not exist, skipping"])
    }

    @Test func rollbackEndsAnOpenOrFailedTransaction() async throws {
        try await withConnection { connection async throws in
            try await connection.execute("CREATE TABLE public.t (a int)")
            try await connection.execute("BEGIN; INSERT INTO public.t VALUES (1)")
            _ = await postgresError { _ = try await connection.query("SELECT 1/0") }
            try await connection.rollback()
            try await connection.rollback()
            #expect(try await connection.query("SELECT count(*) FROM public.t").firstValue == "0")
        }
    }
}
