import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Room, connections, extensions and migrations: what an initial copy trips over.
@Suite struct CapacityPreflightTests {
    private func configuration(jobs: Int = 1, rateLimitBytes: Int = 0) -> LinderoConfiguration {
        var configuration = LinderoConfiguration(
            backend: .replica,
            databases: [
                DatabaseSettings(name: "bot", url: .conninfo("")), DatabaseSettings(name: "sync", url: .conninfo("")),
            ], origin: "bot")
        configuration.replication.copy.jobs = jobs
        configuration.replication.copy.rateLimitBytes = rateLimitBytes
        return configuration
    }

    /// 20 GB of tables that take 1,000 s to copy, while 1 MB of log is written in a second.
    private var facts: CapacityFacts {
        var facts = CapacityFacts()
        facts.source.database = "bot"
        facts.target.database = "sync"
        for (side, number) in [(\CapacityFacts.source, 1 as UInt), (\CapacityFacts.target, 2)] {
            put(&facts[keyPath: side], on: CapacityFacts.Disk(freeBytes: 1_000_000_000_000, number: number))
            facts[keyPath: side].connectionLimit = 100
        }
        facts.tableBytes = 20_000_000_000
        facts.totalBytes = 30_000_000_000
        facts.walBytesPerSecond = 1_000_000
        return facts
    }

    /// Tables and log.
    private func put(_ server: inout CapacityFacts.Server, on disk: CapacityFacts.Disk?) {
        (server.tables.disk, server.log.disk) = (disk, disk)
    }

    private func free(_ server: inout CapacityFacts.Server, _ bytes: Int) {
        server.tables.disk?.freeBytes = bytes
        server.log.disk?.freeBytes = bytes
    }

    private func findings(_ facts: CapacityFacts, _ configuration: LinderoConfiguration? = nil) -> [PreflightFinding] {
        CapacityChecks(facts: facts, configuration: configuration ?? self.configuration()).findings()
    }

    @Test func roomForThreeTimesWhatIsExpectedIsEnough() {
        #expect(findings(facts) == [])
    }

    @Test func sourceNeedsRoomForTheLogOfTheCopyAndTheTargetForTheTablesToo() throws {
        var small = facts
        free(&small.source, 2_999_000_000)
        let source = try #require(findings(small).first)
        #expect(source.severity == .blocker && source.code == .diskSpace && source.database == "bot")
        #expect(source.message.contains("3.0 GB") && source.message.contains("at 1.0 MB a second"))
        small = facts
        free(&small.target, 32_999_000_000)
        #expect(findings(small).map(\.database) == ["sync"])
        free(&small.target, 33_001_000_000)
        #expect(findings(small) == [])
        // A copy that is slowed down takes longer, and so more.
        #expect(findings(small, configuration(rateLimitBytes: 2_000_000)).map(\.database) == ["sync"])
        // Once it is made nothing more is needed.
        free(&small.target, 0)
        small.isCopyAhead = false
        #expect(findings(small) == [])
    }

    @Test func oneDiskHasToHoldBoth() {
        var one = facts
        for side in [\CapacityFacts.source, \.target] {
            put(&one[keyPath: side], on: CapacityFacts.Disk(freeBytes: 35_000_000_000, number: 7))
        }
        #expect(findings(one).map(\.code) == [.diskSpace])
        put(&one.source, on: CapacityFacts.Disk(freeBytes: 35_000_000_000, number: 8))
        #expect(findings(one) == [])
    }

    @Test func logOnADiskOfItsOwnIsJudgedThereAndTheTablesWhereTheyGo() {
        var apart = facts
        apart.target.log.disk = CapacityFacts.Disk(freeBytes: 2_999_000_000, number: 3)
        apart.target.log.folder = "/log"
        #expect(findings(apart).map(\.fix) == ["make room on the disk of /log"])
        apart.target.log.disk?.freeBytes = 3_001_000_000
        apart.target.tables.disk?.freeBytes = 30_001_000_000
        #expect(findings(apart) == [])
        apart.target.tables.disk?.freeBytes = 29_999_000_000
        #expect(findings(apart).map(\.message).first?.hasPrefix("the tables and their indexes may take 30.0 GB") == true)
        // The target's log beside the source's.
        apart.target.tables.disk?.freeBytes = 30_001_000_000
        apart.source.log.disk = CapacityFacts.Disk(freeBytes: 5_999_000_000, number: 3)
        apart.target.log.disk = apart.source.log.disk
        #expect(findings(apart).map(\.code) == [.diskSpace])
    }

    @Test func diskThatCannotBeSeenIsToldWithWhatItNeeds() {
        var unseen = facts
        put(&unseen.source, on: nil)
        put(&unseen.target, on: nil)
        unseen.target.tables.folder = "/data"
        let found = findings(unseen)
        #expect(found.map(\.severity) == [.note, .note])
        #expect(found[1].fix == "df -h /data, on that server")
        unseen.tableBytes = 1_000
        unseen.totalBytes = 1_000
        #expect(findings(unseen) == [])
    }

    @Test func slotThatMayNotKeepTheLogOfTheCopyIsABlockerOrAWarning() {
        var limited = facts
        limited.slotRetentionMegabytes = 900
        #expect(findings(limited).map(\.severity) == [.blocker])
        #expect(findings(limited).first?.fix?.contains("max_slot_wal_keep_size = '2862MB'") == true)
        limited.slotRetentionMegabytes = 2_000
        #expect(findings(limited).map(\.severity) == [.warning])
        limited.slotRetentionMegabytes = 3_000
        #expect(findings(limited) == [])
    }

    @Test func fewFreeConnectionsAreTold() {
        var busy = facts
        busy.source.reservedConnections = 3
        busy.source.usedConnections = 93
        #expect(findings(busy).map(\.code) == [.connections])
        busy.source.isSuperuser = true
        #expect(findings(busy) == [])
    }

    @Test func decodersThatTheServerDoesNotTrustAreABlocker() {
        func found(_ setting: String?) -> [PreflightFinding] {
            var facts = ServerFacts()
            facts.outputPlugins = setting.map(ServerChecks.libraries)
            return ServerChecks(
                database: "bot", facts: facts, configuration: configuration(), ownSlots: [], longTransactionSeconds: 60
            ).outputPlugin()
        }
        #expect(found(nil) == [])
        #expect(found("pgoutput, test_decoding") == [])
        #expect(found("\"pgoutput\"") == [])
        #expect(found("test_decoding").first?.fix?.contains("'test_decoding, pgoutput'") == true)
        #expect(found("").map(\.severity) == [.blocker])
    }

    @Test func realServersTellTheirRoom() async throws {
        let scene = try await PreflightScene.make(
            script: PreflightScene.sample + "INSERT INTO \"Reservas\" SELECT n, n, repeat('x', 1000) FROM generate_series(1, 2000) n;")
        let connections = try await (
            PostgresConnection.connect(scene.options(.source)), PostgresConnection.connect(scene.options(.target))
        )
        var sides: [PreflightSide] = []
        for (name, connection) in [("bot", connections.0), ("sync", connections.1)] {
            let facts = try await ServerFactsReader.server(connection, publication: nil, roles: [])
            sides.append(PreflightSide(name: name, connection: connection, facts: facts))
        }
        let tables = try await CatalogReader.tables(connections.0)
        let facts = try await CapacityFacts.read(source: sides[0], target: sides[1], tables: tables, isCopyAhead: true)
        for server in [facts.source, facts.target] {
            #expect((server.tables.disk?.freeBytes ?? 0) > 0 && (server.log.disk?.freeBytes ?? 0) > 0)
            #expect(server.connectionLimit > server.usedConnections)
            #expect(server.tables.folder?.hasSuffix("/data") == true)
        }
        #expect(facts.source.log.disk?.number == facts.target.tables.disk?.number)
        #expect(facts.tableBytes > 2_000_000 && facts.totalBytes > facts.tableBytes)
        #expect(facts.walBytesPerSecond > 0)
        for connection in [connections.0, connections.1] { await connection.close() }
    }

    @Test func extensionThatTheTargetLacksIsABlockerUntilItIsThere() async throws {
        let source = try await PostgresCluster.shared("source")
        let isThere = try await source.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'").rowCount > 0
        // The servers of PyPI come without contrib.
        guard isThere else { return }
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, """
            CREATE EXTENSION citext SCHEMA public; CREATE DOMAIN public.mail AS citext;
            CREATE TABLE public.lead (id int PRIMARY KEY, mails public.mail[], note text);
            CREATE TABLE public.plain (id int PRIMARY KEY);
            """)
        let finding = try #require(await scene.finding(.extensionMissing))
        #expect(finding.severity == .blocker && finding.database == "sync" && finding.object == "citext")
        #expect(finding.message.contains("table lead of bot"))
        #expect(finding.fix == "CREATE EXTENSION \"citext\";")
        try await scene.run(on: .target, "CREATE EXTENSION citext SCHEMA public")
        #expect(await scene.finding(.extensionMissing) == nil)
    }

    @Test func foreignKeyToATableThatStaysIsTold() async throws {
        var scene = try await PreflightScene.make(script: """
            CREATE TABLE public.hotel (id int PRIMARY KEY);
            CREATE TABLE public.room (id int PRIMARY KEY, hotel int CONSTRAINT in_hotel REFERENCES public.hotel);
            """)
        scene.configuration.tables = [TableRule(pattern: "room", owned: ["bot": ["*"]])]
        let finding = try #require(await scene.finding(.foreignKeyCut))
        #expect(finding.severity == .note && finding.object == "in_hotel")
        scene.configuration.tables.append(TableRule(pattern: "hotel", owned: ["bot": ["*"]]))
        #expect(await scene.finding(.foreignKeyCut) == nil)
    }

    @Test func prismaSchemasThatShareADatabaseAreTold() async throws {
        func migrations(_ schema: String) -> String {
            """
            CREATE SCHEMA IF NOT EXISTS \(schema); CREATE TABLE \(schema)._prisma_migrations (id text PRIMARY KEY,
              migration_name text NOT NULL, started_at timestamptz NOT NULL DEFAULT clock_timestamp(), rolled_back_at timestamptz);
            INSERT INTO \(schema)._prisma_migrations (id, migration_name) VALUES ('1', '20250101000000_init');
            INSERT INTO \(schema)._prisma_migrations (id, migration_name) VALUES ('2', '20250301000000_more');
            """
        }
        let scene = try await PreflightScene.make(script: PreflightScene.sample)
        #expect(await scene.finding(.prismaMigrations) == nil)
        try await scene.run(on: .source, migrations("public"))
        let note = try #require(await scene.finding(.prismaMigrations))
        #expect(note.severity == .note && note.fix?.contains("prisma migrate deploy") == true)
        #expect(await scene.finding(.prismaSchemas) == nil)
        // A second history that began before the first one ended.
        try await scene.run(on: .source, "INSERT INTO public._prisma_migrations (id, migration_name) VALUES ('3', '20250201000000_init')")
        let shared = try #require(await scene.finding(.prismaSchemas))
        #expect(shared.severity == .warning && shared.message.contains("order of their names"))
        try await scene.run(on: .source, "DELETE FROM public._prisma_migrations WHERE id = '3'")
        try await scene.run(on: .source, migrations("crm"))
        #expect(await scene.finding(.prismaSchemas)?.message.contains("2 Prisma schemas") == true)
        #expect(await scene.report().isBlocked == false)
    }
}
