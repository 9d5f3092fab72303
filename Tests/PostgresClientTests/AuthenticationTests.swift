import Foundation
import PostgresClient
import TestSupport
import Testing

/// Passwords, TLS, password files and services, on a real server that insists on them.
@Suite struct AuthenticationTests {
    private static let right = "password=" + SecureServer.quoted(SecureServer.password)
    private static let wrong = "password=" + SecureServer.quoted(SecureServer.wrongPassword)

    // MARK: passwords

    @Test func scramPasswordOfTheConnectionStringLogsIn() async throws {
        let server = try await SecureServer.shared()
        let verifier = try await server.cluster.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'bot'")
        #expect(verifier.firstValue?.hasPrefix("SCRAM-SHA-256$") == true)
        let encoded = try #require(SecureServer.password.addingPercentEncoding(withAllowedCharacters: .alphanumerics))
        let uri = "postgresql://bot:\(encoded)@127.0.0.1:\(server.cluster.port)/postgres"
        for conninfo in [server.conninfo(Self.right), uri] {
            let connection = try await PostgresConnection.connect(ConnectionOptions(conninfo))
            #expect(try await connection.query("SELECT current_user").firstValue == "bot")
            await connection.close()
            let replication = try await ReplicationConnection.connect(ConnectionOptions(conninfo))
            #expect(try await replication.identifySystem().database == "postgres")
            await replication.close()
        }
    }

    @Test func wrongPasswordIsATypedFailureThatQuotesNoPassword() async throws {
        let server = try await SecureServer.shared()
        let encoded = try #require(
            SecureServer.wrongPassword.addingPercentEncoding(withAllowedCharacters: .alphanumerics))
        let file = try server.writeSecret(
            "*:*:*:*:" + SecureServer.wrongPassword.replacing(":", with: "\\:") + "\n", as: "wrong.pgpass")
        let strings = [
            server.conninfo(Self.wrong), server.conninfo("passfile=\(file)"),
            server.conninfo(Self.wrong + " sslmode=disable"),
            "postgresql://bot:\(encoded)@127.0.0.1:\(server.cluster.port)/postgres",
        ]
        for conninfo in strings {
            for error in [await refusal(conninfo), await replicationRefusal(conninfo)] {
                let failure = try connectionFailure(error)
                #expect(failure.reason == .authentication)
                #expect(failure.sqlState == SQLState("28P01"))
                #expect(!failure.isTransient)
                #expect(failure.description.contains("bot@127.0.0.1:\(server.cluster.port)"))
                expectNoPassword(in: error, ConnectionOptions(conninfo))
            }
        }
    }

    @Test func missingPasswordIsAnAuthenticationFailure() async throws {
        let server = try await SecureServer.shared()
        let failure = try connectionFailure(await refusal(server.conninfo("")))
        #expect(failure.reason == .authentication)
        #expect(failure.message.contains("no password supplied"))
    }

    @Test func passwordFileGivesThePassword() async throws {
        let server = try await SecureServer.shared()
        let line = "127.0.0.1:\(server.cluster.port):postgres:bot:" + SecureServer.password.replacing(":", with: "\\:")
        let file = try server.writeSecret("# ours\nelsewhere:*:*:*:nothing\n\(line)\n", as: "right.pgpass")
        let connection = try await PostgresConnection.connect(ConnectionOptions(server.conninfo("passfile=\(file)")))
        #expect(try await connection.query("SELECT current_user").firstValue == "bot")
        await connection.close()
    }

    // MARK: TLS

    @Test(.enabled(if: SecureServer.hasTLS), arguments: ["localhost", "127.0.0.1"])
    func verifiedServerIsAccepted(_ host: String) async throws {
        let server = try await SecureServer.shared()
        let options = ConnectionOptions(
            server.conninfo(
                "\(Self.right) sslmode=verify-full sslrootcert=\(server.authority) channel_binding=require",
                user: "tls_bot", host: host))
        let connection = try await PostgresConnection.connect(options)
        let used = try await connection.query("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        #expect(used.rows[0]["ssl"] == "t")
        #expect(used.rows[0]["version"]?.hasPrefix("TLSv1.") == true)
        await connection.close()
    }

    @Test(.enabled(if: SecureServer.hasTLS))
    func serverOfAnotherAuthorityIsRefused() async throws {
        let server = try await SecureServer.shared()
        for mode in ["verify-ca", "verify-full"] {
            let conninfo = server.conninfo("\(Self.right) sslmode=\(mode) sslrootcert=\(server.stranger)")
            let error = await refusal(conninfo)
            let failure = try connectionFailure(error)
            #expect(failure.reason == .encryption)
            #expect(failure.message.contains("certificate verify failed"))
            #expect(!failure.isTransient)
            expectNoPassword(in: error, ConnectionOptions(conninfo))
        }
    }

    @Test(.enabled(if: SecureServer.hasTLS))
    func serverOfAnotherNameIsRefused() async throws {
        let server = try await SecureServer.shared()
        func conninfo(_ mode: String) -> String {
            server.conninfo("\(Self.right) sslmode=\(mode) sslrootcert=\(server.authority)", host: "db.example.com")
        }
        let error = await refusal(conninfo("verify-full"))
        let failure = try connectionFailure(error)
        #expect(failure.reason == .encryption)
        #expect(failure.message.contains("does not match host name \"db.example.com\""))
        expectNoPassword(in: error, ConnectionOptions(conninfo("verify-full")))
        // The name was the only thing wrong.
        try await PostgresConnection.connect(ConnectionOptions(conninfo("verify-ca"))).close()
    }

    @Test func missingAuthorityOrMissingTLSIsAnEncryptionFailure() async throws {
        let server = try await SecureServer.shared()
        let missing = try connectionFailure(
            await refusal(server.conninfo("\(Self.right) sslmode=verify-full sslrootcert=/nowhere/ca.pem")))
        #expect(missing.reason == .encryption)
        let plain = try await PostgresCluster.shared().conninfo() + "?sslmode=require"
        let failure = try connectionFailure(await refusal(plain))
        #expect(failure.reason == .encryption)
        #expect(failure.message.contains("server does not support SSL"))
    }

    /// libpq's default tries again without TLS, which the server rejects for another reason than the password.
    @Test(.enabled(if: SecureServer.hasTLS))
    func wrongPasswordIsToldAlsoWhenTheSecondTryIsRefusedOtherwise() async throws {
        let server = try await SecureServer.shared()
        let conninfo = server.conninfo("\(Self.wrong) sslmode=prefer", user: "tls_bot")
        let error = await refusal(conninfo)
        let failure = try connectionFailure(error)
        #expect(failure.reason == .authentication)
        #expect(failure.sqlState == SQLState("28P01"))
        expectNoPassword(in: error, ConnectionOptions(conninfo))
    }

    @Test(.enabled(if: SecureServer.hasTLS))
    func copiesPipelinesAndInterruptionsWorkOverTLS() async throws {
        let server = try await SecureServer.shared()
        let connection = try await PostgresConnection.connect(
            ConnectionOptions(
                server.conninfo("\(Self.right) sslmode=verify-full sslrootcert=\(server.authority)", user: "tls_bot")))
        try await connection.execute("CREATE TEMPORARY TABLE t (a text)")
        let rows = 300
        try await connection.beginCopyIn("COPY pg_temp.t FROM STDIN")
        // Lengths around every size of a TLS record and of libpq's buffer.
        for row in 1...rows { try await connection.writeCopy(.init(repeating: 65, count: row * 199) + [10]) }
        #expect(try await connection.endCopyIn() == rows)
        try await connection.beginCopyOut("COPY pg_temp.t TO STDOUT")
        var bytes = 0
        while let chunk = try await connection.readCopy(minimumBytes: 1) { bytes += chunk.count }
        #expect(bytes == (1...rows).reduce(0) { $0 + $1 * 199 + 1 })
        let answers = try await connection.run(
            (1...rows).map { row in
                .query(sql: "SELECT repeat('x', $1::int)", parameters: [.text("\(row * 199)")], parameterTypes: [])
            })
        #expect(answers.map { $0.firstValue?.utf8.count } == (1...rows).map { $0 * 199 })
        let error = await postgresError {
            _ = try await connection.query("SELECT pg_sleep(60)", timeoutMilliseconds: 100)
        }
        #expect(error == .timeout(milliseconds: 100))
        #expect(try await connection.query("SELECT 1").firstValue == "1")
        await connection.close()
    }

    // MARK: services, through the program, since the environment of a process with threads cannot be set

    @Test func serviceFileGivesEverything() async throws {
        let server = try await SecureServer.shared()
        let (outcome, path) = try await draft(server, service: "hotel", password: SecureServer.password)
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        #expect(FileManager.default.fileExists(atPath: path))
        #expect(!(outcome.output + outcome.errors).contains(SecureServer.password))
        let written = try String(contentsOfFile: path, encoding: .utf8)
        #expect(!written.contains(SecureServer.password))
    }

    @Test func wrongPasswordOfAServiceFileIsNotPrinted() async throws {
        let server = try await SecureServer.shared()
        let (outcome, _) = try await draft(server, service: "hotel", password: SecureServer.wrongPassword)
        #expect(outcome.exitCode == 1)
        #expect(outcome.errors.contains("28P01"))
        for password in [SecureServer.password, SecureServer.wrongPassword] {
            #expect(!(outcome.output + outcome.errors).contains(password))
        }
    }

    @Test func unknownServiceIsAnOptionsFailure() async throws {
        let server = try await SecureServer.shared()
        let (outcome, _) = try await draft(server, service: "motel", password: SecureServer.password)
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("definition of service \"motel\" not found"))
        #expect(outcome.errors.contains("Correct the connection string, service file"))
        #expect(!(outcome.output + outcome.errors).contains(SecureServer.password))
    }

    @Test func passwordInAnArgumentIsRefusedAndNotRepeated() async throws {
        let outcome = try await LinderoProcess.run([
            "init", "--from-database", "--url", "postgresql://bot:Argument4@127.0.0.1:1/postgres", "--config",
            "/nowhere/lindero.yaml",
        ])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("--url"))
        #expect(!(outcome.output + outcome.errors).contains("Argument4"))
    }

    // MARK: helpers

    /// `lindero init` on a service of a service file; the file names the service `hotel`.
    private func draft(
        _ server: SecureServer, service: String, password: String
    ) async throws -> (outcome: LinderoProcess.Outcome, path: String) {
        let name = "service-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let file = try server.writeSecret(
            """
            [other]
            host=192.0.2.1
            [hotel]
            host=127.0.0.1
            port=\(server.cluster.port)
            dbname=postgres
            user=bot
            password=\(password)

            """, as: name)
        let path = server.cluster.folder + "/" + name + ".yaml"
        let outcome = try await LinderoProcess.run(
            ["init", "--from-database", "--url", "service:\(service)", "--config", path],
            environment: ["PGSERVICEFILE": file])
        return (outcome, path)
    }

    private func refusal(_ conninfo: String) async -> PostgresError? {
        await postgresError { try await PostgresConnection.connect(ConnectionOptions(conninfo)).close() }
    }

    private func replicationRefusal(_ conninfo: String) async -> PostgresError? {
        await postgresError { try await ReplicationConnection.connect(ConnectionOptions(conninfo)).close() }
    }

    private func connectionFailure(_ error: PostgresError?) throws -> ConnectionFailure {
        guard case .connection(let failure) = error else {
            Issue.record("not a failed connection: \(String(describing: error))")
            throw TestFailure()
        }
        return failure
    }

    /// Whichever way the error or the options are shown.
    private func expectNoPassword(in error: PostgresError?, _ options: ConnectionOptions) {
        var dumped = ""
        dump(error, to: &dumped)
        let texts = [String(describing: error), String(reflecting: error), dumped, "\(options)"]
        for password in [SecureServer.password, SecureServer.wrongPassword] {
            let encoded = password.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? password
            for form in [password, encoded, SecureServer.quoted(password), password.replacing(":", with: "\\:")] {
                #expect(!texts.contains { $0.contains(form) })
            }
        }
    }
}
