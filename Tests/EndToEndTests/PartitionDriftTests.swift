import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Partitions come and go on the source without a word in the stream.
@Suite struct PartitionDriftTests {
    private static let script = """
        CREATE TABLE guest (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF guest FOR VALUES FROM (0) TO (100); CREATE TABLE high PARTITION OF guest FOR VALUES FROM (100) TO (200);
        """

    private func scene(_ replication: String = "", tables: String = "guest: { columns: { bot: \"*\" } }") async throws -> BadInputScene {
        let scene = try await BadInputScene(script: Self.script, tables: tables, replication: "heartbeat: 200ms\(replication)")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'a'), (101, 'b')")
        return scene
    }

    /// One with partitions of its own, and a row for each of both.
    private static let new = """
        CREATE TABLE later PARTITION OF guest FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id);
        CREATE TABLE "later Q1" PARTITION OF later FOR VALUES FROM (200) TO (250); CREATE TABLE rest PARTITION OF later DEFAULT;
        INSERT INTO guest VALUES (201, 'c'), (299, 'd'); UPDATE guest SET name = 'e' WHERE id = 101;
        """

    @Test func aNewPartitionIsWaitedForAndItsSQLIsTold() async throws {
        let scene = try await scene()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute(Self.new)
        try await worker.waitForErrors("lacks 3 partitions")
        let checked = try await scene.run(["check", "--json"])
        let findings = try JSONDecoder().decode(CheckDocument.self, from: Data(checked.output.utf8)).findings.filter { $0.code == "partition_missing" }
        #expect(findings.count == 3 && findings.allSatisfy { $0.severity == "warning" }, "\(checked.output)")
        #expect(try await scene.run(["status"]).output.contains("PARTITION OF"))
        for finding in findings { _ = try await scene.target.execute(try #require(finding.fix)) }
        try await scene.waitUntilEqual()
        #expect(try await scene.run(["check"]).exitCode == 0)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func aNewPartitionIsMadeWhereTheSourceIsFollowed() async throws {
        let scene = try await scene(", ddl: follow")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute(Self.new)
        try await scene.waitUntilEqual()
        #expect(worker.errors.contains("followed the source"))
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// Rows that were in a table before it became a partition are no change of its root's.
    @Test(arguments: ["", ", ddl: follow"]) func rowsOfATableThatIsAttachedAreTold(_ replication: String) async throws {
        let scene = try await scene(replication)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute(
            """
            CREATE TABLE later (id int PRIMARY KEY, name text); INSERT INTO later VALUES (201, 'before');
            ALTER TABLE guest ATTACH PARTITION later FOR VALUES FROM (200) TO (300);
            CREATE TABLE fresh PARTITION OF guest FOR VALUES FROM (300) TO (400);
            """)
        _ = try await scene.source.execute("INSERT INTO guest VALUES (202, 'after'), (301, 'new')")
        try await worker.waitForErrors("What later had on bot before it became a partition does not come by itself")
        if replication.isEmpty {
            let sql = "CREATE TABLE later PARTITION OF guest FOR VALUES FROM (200) TO (300); CREATE TABLE fresh PARTITION OF guest FOR VALUES FROM (300) TO (400);"
            _ = try await scene.target.execute(sql)
        }
        try await waitUntil("the new rows are there: \(worker.errors)") {
            try await scene.target.execute("SELECT count(*) FROM guest WHERE id IN (202, 301)").firstValue == "2"
        }
        let repaired = try await scene.run(["verify", "guest", "--repair", "--execute"])
        #expect(repaired.exitCode == 0, "\(repaired.output)\(repaired.errors)")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// Another partition than the source's may take the row as well.
    @Test func anyPlaceForTheRowWillDo() async throws {
        let scene = try await scene()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute("CREATE TABLE later PARTITION OF guest FOR VALUES FROM (200) TO (300); INSERT INTO guest VALUES (201, 'c')")
        try await worker.waitForErrors("lacks a partition")
        _ = try await scene.target.execute("CREATE TABLE wide PARTITION OF guest FOR VALUES FROM (200) TO (1000)")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// A target that goes by bounds of its own lacks nothing.
    @Test func aCoarserTargetLacksNoPartition() async throws {
        let scene = try await BadInputScene(script: "CREATE TABLE guest (id int PRIMARY KEY, name text) PARTITION BY RANGE (id)")
        _ = try await scene.source.execute(Self.script.components(separatedBy: ";").dropFirst().joined(separator: ";"))
        _ = try await scene.target.execute("CREATE TABLE whole PARTITION OF guest FOR VALUES FROM (0) TO (1000)")
        let root = [QualifiedName(schema: "public", name: "guest")]
        let (source, target) = (try await PartitionTrees.read(scene.source, of: root), try await PartitionTrees.read(scene.target, of: root))
        #expect(source.partitions.count == 2 && source.missing(in: target).isEmpty)
        _ = try await scene.target.execute("DROP TABLE whole")
        #expect(source.missing(in: try await PartitionTrees.read(scene.target, of: root)).map(\.name.name) == ["high", "low"])
    }

    /// What came since it was detached is in it on the target, and is its root's.
    @Test func aDetachedPartitionIsNoTableToBeEmptied() async throws {
        let scene = try await scene(tables: "\"public.*\": { columns: { bot: \"*\" } }")
        var worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute("""
            ALTER TABLE guest DETACH PARTITION high; CREATE TABLE higher PARTITION OF guest FOR VALUES FROM (100) TO (200);
            INSERT INTO guest VALUES (102, 'live')
            """)
        try await waitUntil("it has arrived") { try await scene.target.execute("SELECT FROM guest WHERE id = 102").rowCount == 1 }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        let refused = try await scene.run(["run", "--http", "none", "--json"])
        #expect(refused.exitCode == 2)
        let next = try #require(try failure(refused).next)
        let checked = try await scene.run(["check"])
        #expect(checked.exitCode == 2 && checked.output.contains("DETACH PARTITION"), "\(checked.output)")
        _ = try await scene.target.execute(try #require(next.components(separatedBy: "Run on sync: ").last?.components(separatedBy: " then `").first))
        worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let made = try await scene.run(["check", "--json"])
        for finding in try JSONDecoder().decode(CheckDocument.self, from: Data(made.output.utf8)).findings where finding.code == "partition_missing" {
            _ = try await scene.target.execute(try #require(finding.fix))
        }
        let repaired = try await scene.run(["verify", "--repair", "--execute"])
        #expect(repaired.exitCode == 0, "\(repaired.output)\(repaired.errors)")
        for table in ["guest", "high"] {
            let rows = "SELECT string_agg(t::text, ' ' ORDER BY id) FROM \(table) t"
            let there = try await scene.target.execute(rows).firstValue
            #expect(try await scene.source.execute(rows).firstValue == there)
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }
}
