import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// What moving services asks for beyond a settled split, and what it does not.
@Suite struct SplitMoveTests {
    private static let schema = """
        CREATE TABLE "Reservas" (id serial PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, email text UNIQUE, notes text);
        CREATE TABLE "Pagos" (number text PRIMARY KEY, reserva int REFERENCES "Reservas");
        """

    private func scene(movesServices: Bool) async throws -> PreflightScene {
        var scene = try await PreflightScene.make(script: Self.schema, backend: .split)
        scene.configuration = try ConfigurationFile.parse(
            """
            version: 1
            backend: split
            databases: { bot: env:A, sync: env:B }
            origin: bot
            tables:
              Reservas: { match: [bookingId], insert: sync, delete: sync, columns: { bot: [notes], sync: [id, bookingId, email] } }
              Pagos: { insert: sync, delete: sync, columns: { sync: "*" } }
            """, path: "f")
        scene.movesServices = movesServices
        return scene
    }

    private func words(_ scene: PreflightScene, _ severity: PreflightFinding.Severity) async -> [String] {
        await scene.report().findings.filter { $0.severity == severity }.map { "\($0.code.rawValue) \($0.database ?? "-") \($0.object ?? "-")" }
    }

    @Test func whatLinderoSeesToOnTheWayBlocksNobody() async throws {
        let settled = try await scene(movesServices: false)
        #expect(await words(settled, .blocker) == ["replica_identity bot Reservas", "replica_identity sync Reservas"])
        let moving = try await scene(movesServices: true)
        #expect(await words(moving, .blocker) == [])
        // Both sides make rows for a while, with one service's care.
        #expect(await words(moving, .warning).contains("unique_key bot Reservas.email"))
        #expect(await words(moving, .warning).contains("foreign_key_cut bot Pagos.reserva"))
        #expect(await !words(settled, .warning).contains { $0.hasPrefix("unique_key") || $0.hasPrefix("foreign_key") })
    }

    @Test func eachApplierMustBeAbleToWriteEverything() async throws {
        for movesServices in [false, true] {
            let scene = try await scene(movesServices: movesServices)
            try await PreflightScene.withRole(on: scene.target.cluster, "") { role in
                try await scene.run(
                    on: .target,
                    "GRANT SELECT, INSERT (id, \"bookingId\", notes), UPDATE (\"bookingId\", notes) ON \"Reservas\" TO \(role)")
                var scene = scene
                scene.targetUser = role
                let found = await scene.report().findings.filter {
                    $0.code == .targetPrivilege && $0.object == "Reservas" && $0.message.contains("may not write what arrives")
                }
                #expect(found.map(\.severity) == [movesServices ? .blocker : .note])
                #expect(found.first?.fix?.contains("INSERT (\"email\"), UPDATE (\"email\", \"id\"), DELETE") == true, "\(found)")
            }
        }
    }
}
