import Foundation
import Glibc
import PostgresClient
import Replicator
import TestSupport
import Testing

/// Everything that can stand in the way stands there at once: `lindero check` names each with its fix, exits with 2, and writes
/// nothing. Preflight.md says which finding is which; what is not planted here has a test that it names.
@Suite struct CheckPromiseTests {
    /// Two servers that nobody prepared, and databases as two services leave them.
    private struct Scene {
        let source: PostgresCluster
        let target: PostgresCluster
        let bot: PostgresConnection
        let sync: PostgresConnection
        let folder: ConfigurationFolder
        let tables: String

        init(tables: String) async throws {
            async let first = PostgresCluster.start(settings: [
                "wal_level": "replica", "max_wal_senders": "0", "max_replication_slots": "0", "max_slot_wal_keep_size": "1MB",
            ])
            async let second = PostgresCluster.start(
                settings: ["max_replication_slots": "0", "max_active_replication_origins": "0", "max_parallel_maintenance_workers": "0"]
                    .filter { PostgresBinaries.defaultVersion >= 18 || $0.key != "max_active_replication_origins" }, clockSeconds: 7)
            (source, target) = try await (first, second)
            bot = try await BadInputScene.connect(source.conninfo())
            sync = try await BadInputScene.connect(target.conninfo())
            self.tables = tables
            folder = try ConfigurationFolder("")
            try write(tables)
        }

        func write(_ tables: String, backend: String = "replica", bot: String = "env:BOT_URL") throws {
            try """
                version: 1
                backend: \(backend)
                databases: { bot: { url: env:BOT_URL }, sync: { url: env:SYNC_URL } }
                origin: bot
                tables:
                \(tables)

                """.write(toFile: folder.path + "/lindero.yaml", atomically: true, encoding: .utf8)
        }

        func lindero(_ arguments: [String], as role: String = "postgres") async throws -> LinderoProcess.Outcome {
            let environment = ["BOT_URL": source.conninfo(user: role), "SYNC_URL": target.conninfo(user: role)]
            return try await LinderoProcess.run(arguments, environment: environment, folder: folder.path)
        }

        /// Findings by code; the run must have been blocked.
        func check(as role: String = "postgres") async throws -> [String: [CheckDocument.Finding]] {
            let outcome = try await lindero(["check", "--json"], as: role)
            #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
            let document = try JSONDecoder().decode(CheckDocument.self, from: Data(outcome.output.utf8))
            #expect(document.blocked)
            for finding in document.findings { #expect(finding.fix?.isEmpty == false, "\(finding) has no fix") }
            return Dictionary(grouping: document.findings, by: \.code)
        }

        func dumps() async throws -> [[String]] { [try await CatalogDump.read(bot), try await CatalogDump.read(sync)] }

        func end() async {
            for connection in [bot, sync] { await connection.close() }
            for cluster in [source, target] { cluster.remove() }
        }
    }

    private static let all = """
          Reservas: { columns: { bot: "*" } }
          keyless: { columns: { bot: "*" } }
          fleeting: { columns: { bot: "*" } }
          room: { columns: { bot: "*" } }
        """

    /// On both sides.
    private static let schema = """
        CREATE TABLE "Reservas" (id serial PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, "apiData" jsonb);
        CREATE TABLE keyless (a int); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
        CREATE TABLE hotel (id int PRIMARY KEY); CREATE TABLE room (id int PRIMARY KEY, hotel int REFERENCES hotel);
        CREATE ROLE plain LOGIN;
        """
    private static let faultsOfSource = """
        INSERT INTO "Reservas" ("bookingId", "apiData") SELECT n, to_jsonb(repeat(md5(n::text), 30)) FROM generate_series(1, 5000) n;
        SELECT lo_create(0);
        CREATE TABLE _prisma_migrations (id text); CREATE SCHEMA crm; CREATE TABLE crm._prisma_migrations (id text);
        """
    private static let faultsOfTarget = """
        ALTER TABLE "Reservas" ALTER "apiData" TYPE boolean USING true; ALTER TABLE room DROP CONSTRAINT room_pkey;
        """

    @Test func everythingWrongAtOnceIsNamedWithItsFixAndNothingIsWritten() async throws {
        let scene = try await Scene(tables: Self.all)
        for side in [scene.bot, scene.sync] { _ = try await side.execute(Self.schema) }
        _ = try await scene.bot.execute(Self.faultsOfSource)
        _ = try await scene.sync.execute(Self.faultsOfTarget)
        for statement in ["BEGIN", "INSERT INTO room VALUES (1)", "PREPARE TRANSACTION 'forgotten'"] { _ = try await scene.bot.execute(statement) }
        // A table of a terabyte, as far as anybody can tell who does not read it.
        let file = try #require(try await scene.bot.execute("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('keyless')").firstValue)
        #expect(truncate(file, 1 << 40) == 0)
        let before = try await scene.dumps()

        let found = try await scene.check()
        func expect(_ code: String, _ severity: String, on side: String, _ words: String = "", fix: String) {
            let some = found[code] ?? []
            #expect(
                some.contains { $0.severity == severity && $0.database == side && (words.isEmpty || $0.message.contains(words)) && $0.fix?.contains(fix) == true },
                "\(code) on \(side): \(some)")
        }
        expect("wal_level", "blocker", on: "bot", fix: "ALTER SYSTEM SET wal_level = 'logical';")
        expect("replication_slots", "blocker", on: "bot", "0 of 0", fix: "max_replication_slots")
        expect("wal_senders", "blocker", on: "bot", "0 of 0", fix: "max_wal_senders")
        expect("origin_slots", "blocker", on: "sync", fix: "restart the server")
        expect("workers", "note", on: "sync", fix: "max_parallel_maintenance_workers")
        expect("replica_identity", "blocker", on: "bot", "keyless", fix: "REPLICA IDENTITY FULL")
        expect("unlogged_table", "blocker", on: "bot", "fleeting", fix: "SET LOGGED")
        expect("unlogged_table", "blocker", on: "sync", "a crash of this server would empty it", fix: "SET LOGGED")
        expect("target_key", "blocker", on: "sync", "room", fix: "CREATE UNIQUE INDEX ON \"public\".\"room\" (\"id\")")
        expect("type_mismatch", "blocker", on: "sync", "boolean here and jsonb in bot", fix: "TYPE jsonb")
        expect("foreign_key_cut", "note", on: "sync", "room_hotel_fkey", fix: "under tables:")
        expect("sequences", "note", on: "bot", "Reservas", fix: "advance --to split")
        expect("large_objects", "warning", on: "bot", fix: "bytea")
        expect("disk_space", "blocker", on: "sync", " TB (log: three times", fix: "make room")
        expect("slot_retention", "blocker", on: "bot", "max_slot_wal_keep_size is 1.0 MB", fix: "ALTER SYSTEM SET max_slot_wal_keep_size")
        expect("clock_offset", "warning", on: "sync", "ahead", fix: "NTP")
        expect("prepared_transaction", "blocker", on: "bot", "forgotten", fix: "ROLLBACK PREPARED 'forgotten'")
        expect("prisma_schemas", "warning", on: "bot", "2 Prisma schemas", fix: "prisma migrate deploy")
        expect("prisma_migrations", "note", on: "bot", "is never replicated", fix: "prisma migrate deploy")

        // With a role that has no rights, what the servers are stays what it was.
        let plain = try await scene.check(as: "plain")
        for (code, side) in [
            ("wal_level", "bot"), ("replication_privilege", "bot"), ("publication_privilege", "bot"), ("source_privilege", "bot"), ("target_privilege", "sync"),
        ] { #expect(plain[code]?.contains { $0.severity == "blocker" && $0.database == side } == true, "\(code): \(plain[code] ?? [])") }

        // Of columns that nobody owns: each, where it is.
        try scene.write("  Reservas: { columns: { bot: [id] } }")
        let unowned = try await scene.check()
        #expect(unowned["ownership"]?.contains {
            $0.severity == "blocker" && $0.message.contains("nobody owns \"bookingId\", \"apiData\"") && $0.fix?.contains("tables.Reservas.columns: { bot: ") == true
        } == true, "\(unowned)")

        // For people, and by the dry run of a move, the same; nothing of it has left a trace.
        try scene.write(Self.all, backend: "shared")
        let dry = try await scene.lindero(["advance", "--to", "replica"])
        #expect(dry.exitCode == 2 && dry.output.contains("blocker: bot: wal_level is replica") && dry.output.contains("    fix: ALTER SYSTEM SET wal_level"), "\(dry.output)\(dry.errors)")
        #expect(dry.output.contains("Nothing was changed."))
        let after = try await scene.dumps()
        for (was, now) in zip(before, after) { #expect(now == was) }
        await scene.end()
    }

    /// PostgreSQL's own subscription was left on: both would write.
    @Test func aSubscriptionBesideTheReplicaIsABlockerAndWithoutWorkersAWarning() async throws {
        let second = try await PostgresCluster.start(settings: ["max_logical_replication_workers": "0"])
        defer { second.remove() }
        let pair = try await SplitPair(schema: PhaseTests.schema, tables: PhaseTests.tables, backend: "replica", migrates: false, second: second)
        let (publication, url) = ("native_\(UInt32.random(in: 0...UInt32.max))", pair.environment["DATABASE_URL"] ?? "")
        _ = try await pair.bot.execute("CREATE PUBLICATION \(publication) FOR TABLE public.\"Reservas\"")
        _ = try await pair.sync.execute("CREATE SUBSCRIPTION native CONNECTION '\(url)' PUBLICATION \(publication) WITH (slot_name = '\(publication)', copy_data = false)")
        func findings() async throws -> [CheckDocument.Finding] {
            let check = try await pair.command(["check", "--json"])
            return try JSONDecoder().decode(CheckDocument.self, from: Data(check.output.utf8)).findings.filter { ["subscription", "workers"].contains($0.code) }
        }
        let found = try await findings()
        #expect(found.map(\.code) == ["subscription", "workers"] && found.map(\.severity) == ["blocker", "warning"], "\(found)")
        #expect(found[0].database == "sync" && found[0].message.contains("writes table Reservas, which Lindero would write, too"))
        #expect(found[1].fix?.contains("ALTER SYSTEM SET max_logical_replication_workers = '3'") == true)
        let fix = try #require(found[0].fix?.split(separator: ";").first)
        _ = try await pair.sync.execute(String(fix))
        #expect(try await findings().isEmpty)
        _ = try await pair.sync.execute("DROP SUBSCRIPTION native")
        await pair.remove()
    }

    /// A slot of Lindero's own that the server gave up.
    @Test func anInvalidatedSlotIsNamed() async throws {
        let first = try await PostgresCluster.start(settings: ["max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB", "wal_keep_size": "0"])
        defer { first.remove() }
        let scene = try await BadInputScene(source: first)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await waitUntil("the slot is lost", timeoutSeconds: 60) {
            for statement in ["SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))", "SELECT pg_switch_wal()", "CHECKPOINT"] {
                _ = try await first.execute(statement)
            }
            return try await first.execute("SELECT 1 FROM pg_replication_slots WHERE wal_status = 'lost'").rowCount > 0
        }
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 2 && check.output.contains("blocker: bot: replication slot lindero_"), "\(check.output)")
        #expect(check.output.contains("was invalidated") && check.output.contains("max_slot_wal_keep_size be larger first"), "\(check.output)")
        await scene.source.close()
        await scene.target.close()
    }

    /// The article has every code, and none that is not there.
    @Test func theArticleNamesEveryFinding() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let article = try String(contentsOf: root.appendingPathComponent("Sources/Documentation.docc/Preflight.md"), encoding: .utf8)
        let rows = article.split(separator: "\n").filter { $0.hasPrefix("|") }
        let named = rows.flatMap { row in row.split(separator: "|").first.map { $0.matches(of: /`([a-z_]+)`/).map { String($0.1) } } ?? [] }
        let codes = PreflightFinding.Code.allCases.map(\.rawValue)
        #expect(Set(codes).subtracting(named) == [], "not in Preflight.md")
        #expect(Set(named).subtracting(codes) == [], "no such finding")
        // A test that it names is there.
        let tests = try FileManager.default.subpathsOfDirectory(atPath: root.appendingPathComponent("Tests").path).filter { $0.hasSuffix(".swift") }
        let known = Set(tests.map { URL(fileURLWithPath: $0).deletingPathExtension().lastPathComponent })
        for name in rows.flatMap({ $0.matches(of: /[A-Z][A-Za-z]+Tests\b/).map { String($0.0) } }) { #expect(known.contains(name), "\(name)") }
    }
}
