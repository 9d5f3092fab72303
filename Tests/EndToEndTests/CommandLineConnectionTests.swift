import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct CommandLineConnectionTests {
    @Test func serverThatIsDownIsToldWithItsAddress() async throws {
        let outcome = try await LinderoProcess.run(
            ["run"], environment: ["DATABASE_URL": "postgresql://bot:verysecret@127.0.0.1:1/hotel"])
        #expect(outcome.exitCode == 1)
        #expect(outcome.errors.contains("127.0.0.1:1"))
        #expect(outcome.errors.contains("Check that the server runs"))
        #expect(!outcome.errors.contains("verysecret"))
    }

    @Test func unknownHostIsTold() async throws {
        let outcome = try await LinderoProcess.run(
            ["migrate", "--json"], environment: ["DATABASE_URL": "postgresql://bot@no-such-host.invalid/hotel"])
        #expect(outcome.exitCode == 1)
        #expect(try failure(outcome).code == "unknown_host")
    }

    @Test func wrongPasswordIsNeverPrinted() async throws {
        let cluster = try await PostgresCluster.start(settings: ["password_encryption": "scram-sha-256"])
        defer { cluster.remove() }
        try await cluster.execute("CREATE ROLE bot LOGIN PASSWORD 'right'")
        let rules = "host all bot 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        try rules.write(toFile: cluster.folder + "/data/pg_hba.conf", atomically: false, encoding: .utf8)
        try await cluster.execute("SELECT pg_reload_conf()")
        let url = "postgresql://bot:verysecret@127.0.0.1:\(cluster.port)/postgres"
        for arguments in [["run"], ["run", "--json"], ["migrate"]] {
            let outcome = try await LinderoProcess.run(
                arguments, environment: ["DATABASE_URL": url, "LINDERO_LOG_LEVEL": "trace"])
            #expect(outcome.exitCode == 1)
            #expect((outcome.errors + outcome.output).contains("password authentication failed"))
            #expect(!(outcome.errors + outcome.output).contains("verysecret"))
        }
    }

    @Test func unknownDatabaseIsTold() async throws {
        let cluster = try await PostgresCluster.shared("source")
        let outcome = try await LinderoProcess.run(
            ["migrate", "--json"], environment: ["DATABASE_URL": cluster.conninfo(database: "nowhere")])
        #expect(outcome.exitCode == 1)
        #expect(try failure(outcome).code == "no_such_database")
    }
}
