import Foundation
import PostgresClient
import Replicator
import TestSupport
import Testing

@testable import lindero

/// What stands in the way before anything starts: a clear word, exit code 2 (1 for servers that do not answer), and
/// nothing changed.
@Suite struct BadInputTests {
    @Test func walLevelThatIsNotLogicalBlocks() async throws {
        let cluster = try await PostgresCluster.start(settings: ["wal_level": "replica"])
        defer { cluster.remove() }
        try await BadInputScene(source: cluster).expectBlocked(
            "wal_level", says: ["wal_level is replica"], next: "ALTER SYSTEM SET wal_level = 'logical';")
    }

    @Test func noFreeSlotBlocks() async throws {
        let cluster = try await PostgresCluster.start(settings: ["max_replication_slots": "1"])
        defer { cluster.remove() }
        try await cluster.execute("SELECT pg_create_physical_replication_slot('taken')")
        try await BadInputScene(source: cluster).expectBlocked(
            "replication_slots", says: ["no replication slot is free", "1 of 1 (max_replication_slots)"],
            next: "pg_drop_replication_slot")
    }

    @Test func slotsThatRunOutLaterAreNamedToo() async throws {
        let cluster = try await PostgresCluster.start(settings: ["max_replication_slots": "1"])
        defer { cluster.remove() }
        let scene = try await BadInputScene(source: cluster)
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'x')")
        // In shared mode, which runs no preflight of its own.
        try await cluster.execute("SELECT pg_create_physical_replication_slot('taken')")
        let outcome = try await LinderoProcess.run(
            ["run", "--http", "none"], environment: ["DATABASE_URL": scene.sourceURL])
        expectComplaint(outcome, exit: 1, says: ["53400", "where: primary->feed", "lindero check"])
    }

    @Test func roleWithoutReplicationBlocks() async throws {
        let cluster = try await PostgresCluster.shared("source")
        let role = "weak" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        try await cluster.execute("CREATE ROLE \(role) LOGIN")
        let scene = try await BadInputScene()
        _ = try await scene.source.execute("ALTER TABLE guest OWNER TO \(role); GRANT SELECT ON guest TO \(role)")
        let url = scene.sourceURL.replacingOccurrences(of: "postgres@", with: "\(role)@")
        let name = scene.sourceURL.components(separatedBy: "/").last ?? ""
        _ = try await scene.source.execute("GRANT CREATE ON DATABASE \"\(name)\" TO \(role)")
        try await scene.expectBlocked(
            "replication_privilege", says: ["role \(role) may not replicate"], next: "ALTER ROLE \"\(role)\" REPLICATION;",
            ["BOT_URL": url])
    }

    @Test func roleThatLosesReplicationIsToldWhatToGrant() async throws {
        let role = "weak" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        try await PostgresCluster.shared("source").execute("CREATE ROLE \(role) LOGIN")
        let pair = try await AdoptedPair()
        let url = pair.sourceURL.replacingOccurrences(of: "postgres@", with: "\(role)@")
        let outcome = try await LinderoProcess.run([
            "run", "--http", "none", "--source", url, "--target", pair.targetURL, "--slot", pair.slot,
            "--publication", "p",
        ])
        expectComplaint(outcome, exit: 2, says: [role, "where: source->target", "REPLICATION", "lindero check"])
    }

    @Test func wrongPasswordIsToldWithRoleAndDatabase() async throws {
        let cluster = try await PostgresCluster.start(settings: ["password_encryption": "scram-sha-256"])
        defer { cluster.remove() }
        try await cluster.execute("CREATE ROLE bot LOGIN PASSWORD 'right'")
        let rules = "host all bot 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        try rules.write(toFile: cluster.folder + "/data/pg_hba.conf", atomically: false, encoding: .utf8)
        try await cluster.execute("SELECT pg_reload_conf()")
        let scene = try await BadInputScene()
        let wrong = ["BOT_URL": "postgresql://bot:\(BadInputScene.password)@127.0.0.1:\(cluster.port)/postgres"]
        let run = try await scene.run(["run"], wrong)
        expectComplaint(
            run, exit: 1,
            says: ["password authentication failed", "bot (bot@127.0.0.1:\(cluster.port)/postgres)", "~/.pgpass"])
        let check = try await scene.run(["check", "--json"], wrong)
        #expect(check.exitCode == 2)
        let document = try JSONDecoder().decode(CheckDocument.self, from: Data(check.output.utf8))
        #expect(document.findings.contains { $0.code == "connection" && $0.database == "bot" && $0.fix != nil })
        expectNoPassword(check)
        let json = try await scene.run(["run", "--json"], wrong)
        #expect(try failure(json).code == "authentication")
        expectNoPassword(json)
    }

    @Test func roleWithoutAFreeConnectionIsToldSo() async throws {
        let role = "crowd" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        let cluster = try await PostgresCluster.shared("source")
        try await cluster.execute("CREATE ROLE \(role) LOGIN CONNECTION LIMIT 0")
        let outcome = try await LinderoProcess.run(
            ["run", "--http", "none"], environment: ["DATABASE_URL": cluster.conninfo(user: role)])
        expectComplaint(outcome, exit: 1, says: ["53300", "where: primary (\(role)@", "max_connections"])
    }

    /// Every command that needs the database, and the exit code when it cannot be reached.
    static let commands: [(words: [String], exit: Int32)] = [
        (["run", "--http", "none"], 1), (["migrate"], 1), (["guard", "plan"], 1), (["guard", "apply"], 1),
        (["guard", "remove"], 1), (["audit"], 1), (["upsert", "guest", "--as", "bot", "-"], 1), (["lag"], 1),
        (["init", "--from-database", "--url", "env:BOT_URL", "--force"], 1),
    ]

    @Test(arguments: commands) func unreachableServersAreToldByEveryCommand(_ command: (words: [String], exit: Int32)) async throws {
        let folder = try ConfigurationFolder(BadInputScene.file(tables: "guest: { columns: { bot: \"*\" } }"))
        for (host, code, words) in [
            ("127.0.0.1:1", "unreachable", "127.0.0.1:1"), ("no-such-host.invalid", "unknown_host", "no-such-host.invalid"),
        ] {
            let url = "postgresql://bot:\(BadInputScene.password)@\(host)/hotel"
            let environment = ["BOT_URL": url, "SYNC_URL": url]
            let outcome = try await LinderoProcess.run(command.words, environment: environment, folder: folder.path)
            expectComplaint(outcome, exit: command.exit, says: [words, "/hotel)", "Check"])
            let json = try await LinderoProcess.run(
                command.words + ["--json"], environment: environment, folder: folder.path)
            #expect(json.exitCode == command.exit)
            #expect(try failure(json).code == code)
            expectNoPassword(json)
        }
    }

    @Test func unreachableServersDoNotKeepCheckAndStatusFromSayingTheRest() async throws {
        let scene = try await BadInputScene()
        let down = ["BOT_URL": "postgresql://bot:\(BadInputScene.password)@127.0.0.1:1/hotel"]
        let check = try await scene.run(["check"], down)
        #expect(check.exitCode == 2)
        #expect(check.output.contains("blocker: bot: can't connect to bot@127.0.0.1:1/hotel"))
        #expect(check.output.contains("Next: mend the blockers"))
        expectNoPassword(check)
        let status = try await scene.run(["status"], down)
        #expect(status.exitCode == 1 && status.output.contains("unreachable  bot@127.0.0.1:1/hotel"), "\(status.output)\(status.errors)")
        #expect(status.output.contains("phase not known; lindero.yaml says replica"), "\(status.output)")
        #expect(status.output.contains("safe to roll back: no, because the phase is not known"), "\(status.output)")
        expectNoPassword(status)
        let json = try await scene.run(["status", "--json"], down)
        let document = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect((document["rollback"] as? [String: Any])?["safe"] as? Bool == false, "\(document)")
        expectNoPassword(json)
    }

    @Test(arguments: [90_624, 130_014]) func olderServerIsRefusedWithItsVersion(_ version: Int) throws {
        let failure = CommandFailure(try #require(SupportedVersion.failure(version)), place: "bot (bot@h:5432/hotel)")
        #expect(failure.exit == .blocked)
        #expect(failure.code == "unsupported_version")
        #expect(failure.text.contains("The server is PostgreSQL \(version == 130_014 ? "13" : "before 10"); Lindero needs 14"))
        #expect(failure.text.contains("where: bot (bot@h:5432/hotel)"))
        #expect(failure.text.contains("next: Upgrade the server to 14 or later"))
        #expect(failure.json.text.contains("\"unsupported_version\""))
    }

    /// A server that says 13 when it greets: nothing more is asked of it, and the rest is told of the other.
    @Test(arguments: ["BOT_URL", "SYNC_URL"]) func aServerThatIsTooOldIsNamedWithItsFix(_ side: String) async throws {
        let scene = try await BadInputScene()
        let greeting = Array("server_version\0".utf8)
        let relay = try NetworkRelay(to: try await PostgresCluster.shared(side == "BOT_URL" ? "source" : "target").port, rewrite: { piece in
            guard let found = piece.firstRange(of: greeting), found.upperBound + 2 <= piece.count else { return piece }
            return piece[..<found.upperBound] + Array("13".utf8) + piece[(found.upperBound + 2)...]
        })
        defer { relay.close() }
        let url = try #require(scene.environment[side]?.replacing(/:\d+\//, with: ":\(relay.port)/"))
        let check = try await scene.run(["check", "--json"], [side: url])
        let document = try JSONDecoder().decode(CheckDocument.self, from: Data(check.output.utf8))
        #expect(check.exitCode == 2 && document.blocked, "\(check.output)\(check.errors)")
        let finding = try #require(document.findings.first { $0.code == "server_version" }, "\(document.findings)")
        #expect(finding.severity == "blocker" && finding.database == (side == "BOT_URL" ? "bot" : "sync"))
        #expect(finding.message.contains("The server is PostgreSQL 13") && finding.fix?.contains("pg_upgrade") == true, "\(finding)")
        #expect(!document.findings.contains { $0.code == "check_failed" }, "\(document.findings)")
        let run = try await scene.run(["run", "--http", "none"], [side: url])
        expectComplaint(run, exit: 2, says: ["The server is PostgreSQL 13", "Lindero needs 14"])
    }

    @Test(arguments: [140_000, 150_004, 180_000]) func supportedServersPass(_ version: Int) {
        #expect(SupportedVersion.failure(version) == nil)
    }

    @Test func tableWithoutKeyBlocksAndTheSourceGoesOnWriting() async throws {
        let scene = try await BadInputScene(
            script: "CREATE TABLE log (line text)", tables: "log: { columns: { bot: \"*\" } }")
        try await scene.expectBlocked(
            "replica_identity", says: ["table log has no usable key"], next: "ALTER TABLE \"public\".\"log\" ADD PRIMARY KEY")
        _ = try await scene.source.execute("INSERT INTO log VALUES ('a'); UPDATE log SET line = 'b'")
    }

    @Test func sharedFeedLeavesTablesWithoutKeyAlone() async throws {
        let scene = try await BadInputScene(
            script: """
                CREATE TABLE log (line text); CREATE TABLE guest (id int PRIMARY KEY);
                CREATE TABLE part (id int) PARTITION BY RANGE (id);
                CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9);
                """)
        let worker = try LinderoProcess.start(
            ["run", "--http", "none"], environment: ["DATABASE_URL": scene.sourceURL])
        try await worker.waitForErrors("following changes")
        for table in ["log", "part"] { #expect(worker.errors.contains("table=\(table)"), "\(worker.errors)") }
        _ = try await scene.source.execute("INSERT INTO log VALUES ('a'); UPDATE log SET line = 'b'; DELETE FROM log")
        _ = try await scene.source.execute("INSERT INTO part VALUES (1); UPDATE part SET id = 2; DELETE FROM part")
        let published = try await scene.source.execute("SELECT string_agg(tablename, ',') FROM pg_publication_tables")
        #expect(published.rows.first?[0] == "guest")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func targetWithoutTheTableBlocksAnAdoptedSlot() async throws {
        let slot = "bad" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let scene = try await BadInputScene(replication: "snapshot: never, slot: \(slot), publication: p")
        _ = try await scene.source.execute("CREATE PUBLICATION p FOR TABLE guest")
        _ = try await scene.source.query("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        _ = try await scene.target.execute("DROP TABLE guest")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["sync: table guest does not exist", "where: bot->sync", "pg_dump --schema-only"])
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 2)
        #expect(check.output.contains("sync: table guest does not exist"))
    }

    @Test func slotThatAnotherProgramReadsIsNotTaken() async throws {
        let slot = "bad" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let scene = try await BadInputScene(replication: "snapshot: never, slot: \(slot), publication: p")
        _ = try await scene.source.execute("CREATE PUBLICATION p FOR TABLE guest")
        _ = try await scene.source.query("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        let other = try await ReplicationConnection.connect(
            ConnectionOptions(scene.sourceURL + "?application_name=other").withoutSenderTimeout)
        try await other.startReplication(
            slot: slot, at: 0, options: [("proto_version", "1"), ("publication_names", "p")])
        let outcome = try await scene.run(["run", "--json", "--http", "none"])
        #expect(outcome.exitCode == 2)
        let document = try failure(outcome)
        #expect(document.code == "slot_active")
        #expect(document.message.contains("bot: replication slot \(slot) is read by"))
        #expect(document.next?.contains("stop that program first") == true)
        await other.close()
    }
}
