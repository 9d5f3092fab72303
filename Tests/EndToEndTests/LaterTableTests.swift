import PostgresClient
import TestSupport
import Testing

/// `tables:` grows after the first copy; `check` says what `run` does.
@Suite struct ConfigurationGrowthTests {
    private static let both = "guest: { columns: { bot: \"*\" } }\n  added: { columns: { bot: \"*\" } }"

    private func stopped() async throws -> BadInputScene {
        let scene = try await BadInputScene()
        _ = try await scene.source.execute(
            "INSERT INTO guest VALUES (1, 'a'); CREATE TABLE added (id int PRIMARY KEY, v text); INSERT INTO added VALUES (1, 'old')")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try scene.folder.write(BadInputScene.file(tables: Self.both))
        return scene
    }

    @Test func addedTableIsCreatedAndCopiedAsCheckSays() async throws {
        let scene = try await stopped()
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 0, "\(check.output)")
        #expect(check.output.contains("table added does not exist and will be created"), "\(check.output)")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        #expect(worker.errors.contains("adding tables"))
        _ = try await scene.source.execute("INSERT INTO added VALUES (2, 'new')")
        try await waitUntil("both rows are there") {
            try await scene.target.query("SELECT 1 FROM added").rowCount == 2
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func addedTableWithoutAKeyBlocksWithTheFix() async throws {
        let scene = try await stopped()
        _ = try await scene.source.execute("ALTER TABLE added DROP CONSTRAINT added_pkey")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["added", "lindero check"])
        _ = try await scene.source.execute("UPDATE added SET v = 'still allowed'")
    }
}
