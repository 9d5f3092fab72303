import Foundation
import PostgresClient
import TestSupport
import Testing

/// What stops a first copy is told by `check`, not only by `run`.
@Suite struct CopyPreflightTests {
    private func blockers(_ scene: BadInputScene, _ more: [String: String] = [:]) async throws -> [String] {
        let outcome = try await scene.run(["check", "--json"], more)
        let document = try JSONDecoder().decode(CheckDocument.self, from: Data(outcome.output.utf8))
        return document.findings.filter { $0.severity == "blocker" }.map { "\($0.code): \($0.message)" }
    }

    @Test func rowsThatLinderoDidNotCopyAreFound() async throws {
        let scene = try await BadInputScene()
        #expect(try await blockers(scene) == [])
        _ = try await scene.target.execute("INSERT INTO guest VALUES (1, 'somebody')")
        #expect(try await blockers(scene) == ["target_not_empty: sync already has rows in guest, which Lindero did not copy."])
        _ = try await scene.target.execute("TRUNCATE guest")
        let advance = try await scene.run(["advance", "--to", "replica"])
        #expect(advance.output.contains("a worker has yet to begin it"), "\(advance.output)\(advance.errors)")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'a')")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(try await blockers(scene) == [], "rows of our own")
        // As an older Lindero left it, which has not been migrated yet.
        func rename(_ names: (String) -> (from: String, to: String)) async throws {
            for column in ["unfinished_tables", "foreign_keys_wait", "timeline"] {
                _ = try await scene.target.execute("ALTER TABLE lindero.direction RENAME \(names(column).from) TO \(names(column).to)")
            }
        }
        try await rename { ($0, "later_\($0)") }
        #expect(try await blockers(scene) == [], "rows of our own still")
        try await rename { ("later_\($0)", $0) }

        // A target that has forgotten it, or another one with the same name.
        _ = try await scene.target.execute("TRUNCATE guest; DELETE FROM lindero.heartbeat; DELETE FROM lindero.direction")
        let found = try await blockers(scene)
        #expect(found.count == 1 && found[0].hasPrefix("slot_exists: Replication slot lindero_"), "\(found)")
        let refused = try await scene.run(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("knows nothing of it"), "\(refused.errors)")
        await PostgresCluster.dropSlots(scene.source)
    }

    @Test func aSchemaThatTakesNoTablesIsFound() async throws {
        let scene = try await BadInputScene()
        let role = "copier_\(UInt32.random(in: 0...UInt32.max))"
        _ = try await scene.target.execute(
            """
            DROP TABLE guest; REVOKE CREATE ON SCHEMA public FROM public; CREATE ROLE \(role) LOGIN;
            DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO \(role)', current_database()); END $$;
            """)
        let asRole = ["SYNC_URL": scene.targetURL.replacingOccurrences(of: "//postgres@", with: "//\(role)@")]
        let words = "role \(role) may not create table guest in schema public"
        #expect(try await blockers(scene, asRole).contains("target_privilege: \(words)"))
        _ = try await scene.target.execute("GRANT CREATE ON SCHEMA public TO \(role)")
        #expect(try await !blockers(scene, asRole).contains { $0.contains("may not create table") })
    }
}
