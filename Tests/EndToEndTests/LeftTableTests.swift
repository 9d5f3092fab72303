import Foundation
import PostgresClient
import TestSupport
import Testing

/// A table that is taken out of lindero.yaml and put back. What was written to it meanwhile passed by.
@Suite struct LeftTableTests {
    private static let guest = "guest: { columns: { bot: \"*\" } }"
    private static let both = guest + "\n  stay: { columns: { bot: \"*\" } }"
    private static let settings = "heartbeat: 200ms"

    /// Runs the worker until the target shows what `script` writes.
    private func stream(_ scene: BadInputScene, _ script: String) async throws {
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute(script)
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func tableThatIsBackIsRefusedUntilItIsCopiedAnew() async throws {
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text); CREATE TABLE stay (id int PRIMARY KEY, v text)",
            tables: Self.both, replication: Self.settings)
        _ = try await scene.source.execute("INSERT INTO stay VALUES (1, 'one'), (2, 'two')")
        try await stream(scene, "INSERT INTO guest VALUES (1, 'a')")
        try scene.folder.write(BadInputScene.file(tables: Self.guest, replication: Self.settings))
        try await stream(
            scene, "UPDATE stay SET v = 'changed' WHERE id = 1; INSERT INTO stay VALUES (3, 'three'); INSERT INTO guest VALUES (2, 'b')")
        try scene.folder.write(BadInputScene.file(tables: Self.both, replication: Self.settings))

        let checked = try await scene.run(["check", "--json"])
        let check = try JSONDecoder().decode(CheckDocument.self, from: Data(checked.output.utf8))
        #expect(check.blocked && check.findings.contains { $0.code == "table_left" && $0.severity == "blocker" }, "\(checked.output)")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["stay", "tables:", "TRUNCATE", "lindero.table_copy"])
        #expect(try await scene.target.execute("SELECT count(*) FROM stay").firstValue == "2", "nothing streamed")

        let next = try #require(try failure(try await scene.run(["run", "--json", "--http", "none"])).next)
        let advice = try #require(next.split(separator: "run on sync: ").last?.split(separator: " Then `").first)
        _ = try await scene.target.execute(String(advice))
        try await stream(scene, "INSERT INTO stay VALUES (4, 'four'); INSERT INTO guest VALUES (3, 'c')")
        let rows = "SELECT string_agg(s::text, ' ' ORDER BY id) FROM stay s"
        let copied = try await scene.target.execute(rows).firstValue
        #expect(try await scene.source.execute(rows).firstValue == copied)
        #expect(try await scene.run(["check"]).exitCode == 0)
    }

    /// A replica was taken down, and its tables with it or not: nothing of it counts as copied for the next one.
    @Test(arguments: [true, false]) func whatAFormerReplicaCopiedIsCopiedAnew(isDropped: Bool) async throws {
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text)", tables: Self.guest, replication: Self.settings)
        try await stream(scene, "INSERT INTO guest VALUES (1, 'a')")
        await PostgresCluster.dropSlots(scene.source)
        _ = try await scene.target.execute("DELETE FROM lindero.heartbeat; DELETE FROM lindero.direction")
        _ = try await scene.source.execute("UPDATE guest SET name = 'b'")
        _ = try await scene.target.execute(isDropped ? "DROP TABLE guest" : "UPDATE guest SET name = name")
        if !isDropped {
            let refused = try await scene.run(["run", "--http", "none"])
            expectComplaint(refused, exit: 2, says: ["guest", "an earlier replica left", "lindero advance"])
            _ = try await scene.target.execute("TRUNCATE guest")
        }
        try await stream(scene, "INSERT INTO guest VALUES (2, 'c')")
        #expect(try await scene.target.execute("SELECT string_agg(name, ' ' ORDER BY id) FROM guest").firstValue == "b c")
    }

    @Test func columnThatBeginsToTravelIsRefusedUntilItsOlderValuesAreBrought() async throws {
        let columns = "columns: { bot: \"*\" }"
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text, note text)",
            tables: "guest: { private: [note], \(columns) }", replication: Self.settings)
        _ = try await scene.source.execute("INSERT INTO guest (id, name) SELECT i, 'n' FROM generate_series(1, 5) i")
        try await stream(scene, "INSERT INTO guest (id, name) VALUES (6, 'b')")
        _ = try await scene.source.execute("UPDATE guest SET note = 'kept'")
        try scene.folder.write(BadInputScene.file(tables: "guest: { \(columns) }", replication: Self.settings))

        let checked = try await scene.run(["check", "--json"])
        let check = try JSONDecoder().decode(CheckDocument.self, from: Data(checked.output.utf8))
        #expect(check.blocked && check.findings.contains { $0.code == "column_left" && $0.severity == "blocker" }, "\(checked.output)")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["guest", "note", "lindero verify guest --repair"])
        let next = try #require(try failure(try await scene.run(["run", "--json", "--http", "none"])).next)
        let advice = try #require(next.split(separator: "Run on sync: ").last?.split(separator: " Then `").first)
        _ = try await scene.target.execute(String(advice))
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let repair = try await scene.run(["verify", "guest", "--repair"])
        #expect(repair.exitCode == 0, "\(repair.output)\(repair.errors)")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (7, 'c', 'new')")
        try await scene.waitUntilEqual()
        #expect(try await scene.target.execute("SELECT count(note) FROM guest").firstValue == "7")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func columnThatBecamePrivateAndIsBackIsRefusedOnceSomethingStreamed() async throws {
        let columns = "columns: { bot: \"*\" }"
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text, note text)", tables: "guest: { \(columns) }",
            replication: Self.settings)
        try await stream(scene, "INSERT INTO guest VALUES (1, 'a', 'first')")
        try scene.folder.write(BadInputScene.file(tables: "guest: { private: [note], \(columns) }", replication: Self.settings))
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("UPDATE guest SET name = 'b', note = 'second'")
        try await waitUntil("the name is there") { try await scene.target.execute("SELECT name FROM guest").firstValue == "b" }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try scene.folder.write(BadInputScene.file(tables: "guest: { \(columns) }", replication: Self.settings))
        expectComplaint(try await scene.run(["run", "--http", "none"]), exit: 2, says: ["column \"note\" of guest"])
    }
}
