import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// What two sides together can do to the same rows: each named, each with a mend that helps.
@Suite struct SplitPreflightTests {
    private static let schema = """
        CREATE TABLE "Reservas" ("bookingId" text PRIMARY KEY, status text, phone text, notes text);
        ALTER TABLE "Reservas" REPLICA IDENTITY FULL;
        """

    private static let tables = """
        Reservas: { match: [bookingId], insert: sync, delete: sync,
                    columns: { bot: [notes], sync: [bookingId, status], shared: { phone: { policy: last_write } } } }
        """

    private func scene(_ schema: String = schema, _ tables: String = tables, defaults: String = "{}") async throws -> PreflightScene {
        var scene = try await PreflightScene.make(script: schema, backend: .split)
        scene.configuration = try configuration(tables, defaults: defaults)
        return scene
    }

    private func configuration(_ tables: String, defaults: String = "{}") throws -> LinderoConfiguration {
        let lines = tables.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
        return try ConfigurationFile.parse(
            """
            version: 1
            backend: split
            databases: { bot: env:A, sync: env:B }
            origin: bot
            defaults: \(defaults)
            tables:
            \(lines)
            """, path: "f")
    }

    private func blockers(_ scene: PreflightScene) async -> [String] {
        await scene.report().blockers.map { "\($0.code.rawValue) \($0.database ?? "-") \($0.object ?? "-")" }
    }

    /// The mend is SQL as it stands, up to the first alternative.
    private func mend(_ scene: PreflightScene, _ finding: PreflightFinding) async throws {
        let sql = try #require(finding.fix?.components(separatedBy: "; or ").first)
        let sides: [PreflightScene.Side] = finding.database == nil ? [.source, .target] : finding.database == "bot" ? [.source] : [.target]
        for side in sides { try await scene.run(on: side, sql) }
    }

    @Test func aSequenceThatComesToItsEndIsTold() async throws {
        let scene = try await scene(
            Self.schema + "CREATE TABLE t (id smallserial PRIMARY KEY, a text); SELECT setval('t_id_seq', 32000)",
            Self.tables + "\nt: { match: [id], insert: [bot, sync], delete: bot, columns: { bot: \"*\" } }")
        let finding = try #require(await scene.finding(.sequenceHeadroom))
        #expect(finding.severity == .warning && finding.object == "t.id" && finding.fix?.contains("AS bigint") == true, "\(finding)")
    }

    /// Every commit of that side would wait for the worker, and the worker until it shows.
    @Test func aSideThatWaitsForLinderoAsItsStandbyIsBlocked() async throws {
        let cluster = try await PostgresCluster.startWithoutStandby()
        defer { cluster.remove() }
        func codes(_ names: String) async throws -> [String] {
            try await cluster.demandStandbys(names)
            // A session may begin before its server has read the file.
            try await waitUntil("it is so") { try await cluster.execute("SHOW synchronous_standby_names").firstValue == names }
            var scene = try await PreflightScene.make(source: cluster, script: Self.schema, backend: .split)
            scene.configuration = try configuration(Self.tables)
            return await blockers(scene)
        }
        #expect(try await codes("FIRST 1 (near, far)") == [])
        for names in ["*", "ANY 1 (near, \"Lindero\")"] { #expect(try await codes(names) == ["synchronous_standby bot -"], "\(names)") }
    }

    @Test func twoReadySidesAreNotBlocked() async throws {
        #expect(await blockers(try await scene()) == [])
    }

    @Test func identityIsAskedForOnTheSideThatLacksIt() async throws {
        let scene = try await scene()
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" REPLICA IDENTITY DEFAULT")
        let finding = try #require(await scene.finding(.replicaIdentityFull))
        #expect(finding.database == "sync")
        #expect(finding.fix == "ALTER TABLE \"public\".\"Reservas\" REPLICA IDENTITY FULL;")
        try await mend(scene, finding)
        #expect(await blockers(scene) == [])
    }

    @Test func partitionsAreAskedForTheirOwnIdentity() async throws {
        let schema = """
            CREATE TABLE visits (id int PRIMARY KEY, count int) PARTITION BY RANGE (id);
            CREATE TABLE visits_low PARTITION OF visits FOR VALUES FROM (0) TO (100);
            CREATE TABLE visits_high PARTITION OF visits FOR VALUES FROM (100) TO (200);
            ALTER TABLE visits REPLICA IDENTITY FULL; ALTER TABLE visits_low REPLICA IDENTITY FULL;
            """
        let tables = "visits: { match: [id], insert: bot, delete: bot, columns: { shared: { count: { policy: delta } } } }"
        let scene = try await scene(schema, tables)
        #expect(await blockers(scene) == ["replica_identity_full bot visits", "replica_identity_full sync visits"])
        let finding = try #require(await scene.finding(.replicaIdentityFull))
        #expect(finding.fix == "ALTER TABLE \"public\".\"visits_high\" REPLICA IDENTITY FULL;")
        for side in [PreflightScene.Side.source, .target] { try await scene.run(on: side, try #require(finding.fix)) }
        #expect(await blockers(scene) == [])
        // The stream speaks of the root.
        try await scene.run(on: .target, "ALTER TABLE visits REPLICA IDENTITY DEFAULT")
        let root = try #require(await scene.finding(.replicaIdentityFull))
        #expect(root.database == "sync" && root.fix == "ALTER TABLE \"public\".\"visits\" REPLICA IDENTITY FULL;")
        // What one side owns needs to tell its key alone.
        try await scene.run(on: .target, "ALTER TABLE visits_low REPLICA IDENTITY DEFAULT")
        var owned = scene
        owned.configuration = try configuration("visits: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }")
        #expect(await blockers(owned) == [])
        // Nothing of it goes back, so that alone is no reason to ask.
        try await scene.run(on: .source, "ALTER TABLE visits_low REPLICA IDENTITY NOTHING")
        #expect(await blockers(owned).contains("replica_identity bot visits"))
    }

    @Test func matchMustIdentifyRowsOnBothSides() async throws {
        let scene = try await scene(
            "CREATE TABLE \"Reservas\" (id int PRIMARY KEY, \"bookingId\" text NOT NULL, status text); CREATE UNIQUE INDEX b ON \"Reservas\" (\"bookingId\");",
            "Reservas: { match: [bookingId], insert: sync, delete: sync, columns: { sync: \"*\" } }")
        // A deleted row would tell its id alone.
        #expect(await blockers(scene) == ["replica_identity bot Reservas", "replica_identity sync Reservas"])
        for side in [PreflightScene.Side.source, .target] { try await scene.run(on: side, "ALTER TABLE \"Reservas\" REPLICA IDENTITY USING INDEX b") }
        #expect(await blockers(scene) == [])
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" REPLICA IDENTITY FULL; DROP INDEX b; ALTER TABLE \"Reservas\" ALTER \"bookingId\" DROP NOT NULL")
        let findings = await scene.report().blockers.filter { $0.code == .matchKey }
        #expect(findings.map(\.object) == ["Reservas", "Reservas.bookingId"])
        for finding in findings { try await mend(scene, finding) }
        #expect(await blockers(scene) == [])
    }

    @Test func matchIsComparedByteByByte() async throws {
        let scene = try await scene(
            "CREATE TABLE t (name text, amount numeric, fee numeric(10,2), v int, PRIMARY KEY (name, amount, fee));",
            "t: { insert: sync, delete: sync, columns: { sync: '*' } }")
        #expect(await matchKeys(scene) == ["warning bot t.amount", "warning sync t.amount"])
        do {
            try await scene.run(
                on: .target,
                "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); "
                    + "ALTER TABLE t ALTER name TYPE text COLLATE loose")
        } catch let error as PostgresError where error.sqlState?.rawValue == "0A000" {
            // A server that was built without ICU has no such collations.
            return
        }
        #expect(await matchKeys(scene).first == "blocker sync t.name")
        try await mend(scene, try #require(await scene.finding(.matchKey)))
        #expect(await blockers(scene) == [])
    }

    private func matchKeys(_ scene: PreflightScene) async -> [String] {
        await scene.report().findings.filter { $0.code == .matchKey }.map {
            "\($0.severity) \($0.database ?? "-") \($0.object ?? "")"
        }
    }

    @Test func theAppliersRoleNeedsWhatTravelsAndNoMore() async throws {
        var scene = try await scene()
        try await PreflightScene.withRole(on: scene.target.cluster, "REPLICATION") { role in
            scene.targetUser = role
            // What every direction asks of its role, this one as target and as source.
            try await scene.run(
                on: .target,
                """
                GRANT CREATE ON DATABASE "\(scene.target.database)" TO \(role); GRANT SELECT ON "Reservas" TO \(role);
                GRANT INSERT ("bookingId"), UPDATE (notes) ON "Reservas" TO \(role);
                """)
            let finding = try #require(
                await scene.report().blockers.first { $0.code == .targetPrivilege && $0.object == "Reservas" })
            // bot makes and deletes no rows, but a changed key may make one.
            #expect(finding.fix == "GRANT INSERT (\"notes\", \"phone\"), UPDATE (\"bookingId\", \"phone\") ON \"public\".\"Reservas\" TO \"\(role)\";")
            try await scene.run(on: .target, try #require(finding.fix))
            #expect(await scene.report().blockers.contains { $0.code == .targetPrivilege && $0.object == "Reservas" } == false)
            try await scene.run(on: .target, "DROP OWNED BY \(role)")
        }
    }

    @Test func sharedColumnsWithoutPolicyAreNamedWithTheirPlace() async throws {
        let tables = """
            Reservas: { match: [bookingId], insert: sync, delete: sync,
                        columns: { bot: [notes], sync: [bookingId, status], shared: [phone] } }
            """
        let finding = try #require(await scene(Self.schema, tables).finding(.policyMissing))
        #expect(finding.severity == .blocker)
        #expect(finding.object == "Reservas.phone")
        #expect(finding.mark?.line == 8)
        #expect(await blockers(try await scene(Self.schema, tables, defaults: "{ conflict: max }")) == [])
    }

    @Test func requiredColumnsOfTheOtherSideNeedAValueOnlyWhereRowsArrive() async throws {
        let schema = Self.schema + "ALTER TABLE \"Reservas\" ALTER status SET NOT NULL, ALTER notes SET NOT NULL;"
        // sync alone makes rows: at bot, its own notes stay empty.
        #expect(await blockers(try await scene(schema)) == ["foreign_not_null bot Reservas.notes"])
        let filled = Self.tables.replacing("insert: sync,", with: "insert: sync, fill: { notes: '' },")
        #expect(await blockers(try await scene(schema, filled)) == [])
        let both = Self.tables.replacing("insert: sync,", with: "insert: [bot, sync], fill: { notes: '' },")
        let scene = try await scene(schema, both)
        #expect(await blockers(scene) == ["foreign_not_null sync Reservas.status"])
        #expect(await scene.finding(.foreignNotNull)?.fix?.contains("fill: { status: … } under tables.Reservas") == true)
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" ALTER status SET DEFAULT 'new'")
        #expect(await blockers(scene) == [])
        // bot makes none, and gives them other keys: of one that sync has deleted there is a new one then.
        let moving = Self.tables.replacing("insert: sync,", with: "insert: sync, fill: { notes: '' },")
            .replacing("bot: [notes]", with: "bot: [notes, bookingId]").replacing("sync: [bookingId, ", with: "sync: [")
        #expect(await blockers(try await self.scene(schema, moving)) == ["foreign_not_null sync Reservas.status"])
    }

    @Test func fillMustBeAValueOfItsColumn() async throws {
        let schema = Self.schema + "ALTER TABLE \"Reservas\" ADD nights int, ADD stay daterange;"
        let tables = """
            Reservas: { match: [bookingId], insert: [bot, sync], delete: sync, fill: { nights: hidden-text, stay: '[2026-01-01,)' },
                        columns: { bot: [notes, nights, stay], sync: [bookingId, status], shared: { phone: { policy: max } } } }
            """
        let report = await (try await scene(schema, tables)).report()
        let findings = report.blockers.filter { $0.code == .fillValue }
        #expect(findings.map(\.object) == ["Reservas.nights", "Reservas.nights"])
        #expect(findings.first?.mark?.line == 7)
        #expect(!findings.contains { $0.description.contains("hidden-text") })
    }

    @Test func checkOfASplitChangesNothing() async throws {
        let scene = try await scene("CREATE TABLE t (id serial PRIMARY KEY, v text);", "t: { match: [id], insert: [bot, sync], delete: bot, columns: { bot: '*' } }")
        let state = "SELECT last_value || ' ' || is_called || ' ' || c.xmin FROM public.t_id_seq, pg_catalog.pg_class c WHERE relname = 't_id_seq'"
        let connection = try await PostgresConnection.connect(scene.options(.source))
        let before = try await connection.execute(state).firstValue
        #expect(await scene.finding(.sequencesShared)?.fix == "lindero sequences apply")
        #expect(try await connection.execute(state).firstValue == before)
        #expect(await scene.finding(.matchNumbered)?.severity == .warning)
        await connection.close()
    }

    /// A side may have labels of its own, and its services be known to keep them there.
    @Test func labelsThatOneSideLacksAreToldOfWhatTravelsThere() async throws {
        let scene = try await scene(
            "CREATE TYPE mood AS ENUM ('low', 'high'); CREATE TABLE t (id int PRIMARY KEY, a mood, b int)",
            "t: { match: [id], insert: bot, delete: bot, columns: { bot: [id, a], sync: [b] } }")
        try await scene.run(on: .target, "ALTER TYPE mood ADD VALUE 'own'")
        #expect(await scene.finding(.enumLabel) == nil)
        try await scene.run(on: .source, "ALTER TYPE mood ADD VALUE 'mid' BEFORE 'high'")
        let finding = try #require(await scene.finding(.enumLabel))
        #expect(finding.severity == .warning && finding.database == "sync" && finding.message.contains("lacks 'mid'"))
    }
}
