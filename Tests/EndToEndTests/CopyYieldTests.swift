import PostgresClient
import TestSupport
import Testing

/// A migration comes while a copy reads the tables: the first one, or that of tables that were added.
@Suite struct CopyYieldTests {
    private static let slowly = "copy: { jobs: 1, chunk_size: 1MB, rate_limit: 2MB }"
    private static let first = "first: { columns: { bot: \"*\" } }"
    private static let tables = "room: { columns: { bot: \"*\" } }\n  stay: { columns: { bot: \"*\" } }"

    /// A direction that has streamed without some tables, which its file lists by now.
    private func streamed(adding tables: String) async throws -> BadInputScene {
        let scene = try await BadInputScene(script: "CREATE TABLE first (id int PRIMARY KEY)", tables: Self.first, replication: Self.slowly)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try scene.folder.write(BadInputScene.file(tables: Self.first + "\n  " + tables, replication: Self.slowly))
        return scene
    }

    /// The one job has not come to `stay` when it is altered, and would wait behind the migration, which waits for the copy's own snapshot:
    /// nobody's deadlock to the server, and the services wait behind both.
    @Test(arguments: [false, true]) func aMigrationDoesNotWaitForTheCopy(isLater: Bool) async throws {
        let scene =
            isLater ? try await streamed(adding: Self.tables) : try await BadInputScene(script: "", tables: Self.tables, replication: Self.slowly)
        _ = try await scene.source.execute(
            """
            CREATE TABLE room (id int PRIMARY KEY, pad text); INSERT INTO room SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i;
            CREATE TABLE stay (id int PRIMARY KEY, pad text); INSERT INTO stay SELECT i, repeat('y', 500) FROM generate_series(1, 2000) i;
            """)
        let worker = try scene.start()
        try await waitUntil("pieces are there: \(worker.errors)", timeoutSeconds: 30) {
            (try? await scene.target.execute("SELECT count(*) >= 2 FROM lindero.table_copy_chunk").firstValue) == "t"
        }
        _ = try await scene.source.execute(
            """
            SET statement_timeout = '30s'; ALTER TABLE stay ADD COLUMN nights int; UPDATE stay SET nights = id WHERE id < 10;
            SET statement_timeout = 0;
            """)
        try await worker.waitForErrors("waits for table stay, which the copy reads; it lets them pass")
        #expect(!worker.errors.contains("streaming"), "the copy was not over: \(worker.errors)")
        let pieces = try await scene.target.execute("SELECT count(*) FROM lindero.table_copy_chunk").firstValue
        #expect(pieces.flatMap { Int($0) } ?? 0 >= 2, "what was copied is kept")
        try await worker.waitForErrors("Column stay.nights does not exist on the target")
        #expect(!worker.errors.contains("streaming"), "its rows are not copied without the column: \(worker.errors)")
        _ = try await scene.target.execute("ALTER TABLE stay ADD COLUMN nights int")
        try await worker.waitForErrors("streaming", timeoutSeconds: 60)
        for table in ["room", "stay"] {
            let digest = "SELECT count(*) || ' ' || sum(hashtext(x::text)::bigint) FROM \(table) x"
            try await waitUntil("\(table) is equal: \(worker.errors)", timeoutSeconds: 30) {
                try await scene.source.execute(digest).firstValue == scene.target.execute(digest).firstValue
            }
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    /// Whoever waits may be about to rename it: nothing streams into the part that is there.
    @Test func aTableThatIsRenamedInTheMiddleOfItsLaterCopyIsAskedFor() async throws {
        let scene = try await streamed(adding: "room: { columns: { bot: \"*\" } }")
        _ = try await scene.source.execute(
            "CREATE TABLE room (id int PRIMARY KEY, pad text); INSERT INTO room SELECT i, repeat('x', 1000) FROM generate_series(1, 10000) i")
        let worker = try scene.start()
        try await waitUntil("pieces are there: \(worker.errors)", timeoutSeconds: 30) {
            (try? await scene.target.execute("SELECT count(*) >= 2 FROM lindero.table_copy_chunk").firstValue) == "t"
        }
        _ = try await scene.source.execute("ALTER TABLE room RENAME TO chamber; UPDATE chamber SET pad = 'late' WHERE id > 9990")
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("bot has no table \"public\".\"room\" any more, and its copy had not ended"), "\(worker.errors)")
        _ = try await scene.source.execute("ALTER TABLE chamber RENAME TO room")
        let next = try scene.start()
        try await next.waitForErrors("streaming", timeoutSeconds: 60)
        let digest = "SELECT count(*) || ' ' || sum(hashtext(x::text)::bigint) FROM room x"
        try await waitUntil("it is equal: \(next.errors)", timeoutSeconds: 30) {
            try await scene.source.execute(digest).firstValue == scene.target.execute(digest).firstValue
        }
        next.terminate()
        #expect(try await next.wait() == 0, "\(next.errors)")
    }
}
