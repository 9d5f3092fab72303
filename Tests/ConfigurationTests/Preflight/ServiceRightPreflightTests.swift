import Configuration
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// A service that moves has to find the rights that it had.
@Suite struct ServiceRightPreflightTests {
    private static let schema = """
        CREATE TABLE "Reservas" ("bookingId" text PRIMARY KEY, number serial, status text, notes text, secret text);
        CREATE TABLE other (id int PRIMARY KEY);
        """

    @Test func whatTheServiceMayNotDoAtHomeIsNamedAndTheFixMendsIt() async throws {
        var scene = try await PreflightScene.make(script: "CREATE SCHEMA app; SET search_path = app;" + Self.schema, backend: .split)
        let role = "service_" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        // A schema of its own is nobody's by default.
        try await scene.source.cluster.execute("CREATE ROLE \(role) LOGIN")
        if scene.source.cluster.port != scene.target.cluster.port { try await scene.target.cluster.execute("CREATE ROLE \(role) LOGIN") }
        scene.configuration = try ConfigurationFile.parse(
            """
            version: 1
            backend: split
            databases: { bot: env:A, sync: { url: env:B, roles: [\(role)] } }
            origin: bot
            tables:
              app.Reservas: { insert: sync, delete: sync, private: [secret], columns: { bot: [notes, secret], sync: [bookingId, number, status] } }
              app.other: { columns: { bot: "*" } }
            """, path: "f")
        func found() async -> [PreflightFinding] { await scene.report().findings.filter { $0.code == .servicePrivilege } }
        // Who may do nothing anywhere lacks nothing.
        #expect(await found() == [])
        try await scene.run(on: .source, """
            GRANT USAGE ON SCHEMA app TO \(role); GRANT SELECT, INSERT, DELETE, UPDATE (status, number) ON app."Reservas" TO \(role);
            GRANT USAGE ON SEQUENCE app."Reservas_number_seq" TO \(role); GRANT SELECT ON app.other TO \(role);
            """)
        #expect(await found().map(\.severity) == [.warning, .warning])
        scene.movesServices = true
        let findings = await found()
        try #require(findings.map(\.severity) == [.blocker, .blocker] && findings.allSatisfy { $0.database == "sync" }, "\(findings)")
        #expect(findings[0].message == "role \(role) lacks rights on table app.Reservas that it has on bot: DELETE, INSERT, SELECT, UPDATE, USAGE of its schema, USAGE of its sequence")
        #expect(
            findings[0].fix == "GRANT USAGE ON SCHEMA \"app\" TO \"\(role)\"; GRANT SELECT (\"bookingId\", \"notes\", \"number\", \"status\"), "
                + "INSERT (\"bookingId\", \"number\", \"status\"), UPDATE (\"number\", \"status\"), DELETE ON "
                + "\"app\".\"Reservas\" TO \"\(role)\"; GRANT USAGE ON SEQUENCE app.\"Reservas_number_seq\" TO \"\(role)\";")
        try await scene.run(on: .target, findings.compactMap(\.fix).joined(separator: " "))
        #expect(await found() == [])
        // What is the other side's alone, or its rows' end, it need not be given.
        try await scene.run(on: .source, "GRANT ALL ON app.\"Reservas\", app.other TO \(role)")
        let owed = await found().compactMap(\.fix)
        #expect(owed == ["GRANT UPDATE (\"bookingId\") ON \"app\".\"Reservas\" TO \"\(role)\";"])
        try await scene.run(on: .target, owed.joined())
        // One column of many.
        try await scene.run(on: .target, "REVOKE UPDATE (status) ON app.\"Reservas\" FROM \(role)")
        #expect(await found().map(\.fix) == ["GRANT UPDATE (\"status\") ON \"app\".\"Reservas\" TO \"\(role)\";"])
        for side in [PreflightScene.Side.source, .target] { try await scene.run(on: side, "DROP OWNED BY \(role)") }
        for cluster in [scene.source.cluster, scene.target.cluster] { try await cluster.execute("DROP ROLE IF EXISTS \(role)") }
    }
}
