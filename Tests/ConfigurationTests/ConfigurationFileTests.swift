import Configuration
import ReplicationCore
import Testing

/// The file of the design document, whole.
let hotelFile = """
    # lindero.yaml
    version: 1
    backend: shared                       # shared | replica | split
    databases:
      bot:  { url: env:DATABASE_URL,      roles: [bot_app] }
      sync: { url: env:SYNC_DATABASE_URL, roles: [sync_app] }
    origin: bot                           # the database that holds the data today
    defaults: { unlisted_column: error, conflict: queue }
    gates: { max_lag: 2s, max_lag_bytes: 200kB, verify_age: 24h, max_clock_offset: 250ms,
             cutover_timeout: 30s, max_retained_wal: 5GB }
    replication: { snapshot: initial }   # initial | never; slot: and publication: adopt existing ones
    tables:                               # exact names, schema.name, or patterns: "public.*"
      Reservas:
        match: [bookingId]                # identity across databases
        insert: sync
        delete: sync
        private: [crmNotes]               # never leaves its owner's database
        columns:
          bot:  [lastBotInteraction, whatsappThreadId, crmNotes]
          sync: [bookingId, status, lastSyncBeds24, beds24Status, apiData, createdAt]
          shared:
            phone:       { policy: last_write }
            guestName:   { policy: last_write }
            arrivalDate: { policy: prefer, side: sync }
            updatedAt:   { policy: max }
      Leads:      { match: [phone], insert: [bot, sync], delete: bot, columns: { bot: "*" } }
      HotelApart: { match: [id], insert: sync, delete: sync, columns: { sync: "*" } }
    """

@Suite struct ConfigurationFileTests {
    @Test func readsHowAComparisonMayLoadTheServers() throws {
        let start = "version: 1\ndatabases: { bot: env:BOT }\norigin: bot\n"
        let set = try ConfigurationFile.parse(start + "verify: { jobs: 3, chunk_rows: 500, rate_limit: 20MB/s }", path: "f")
        #expect(set.verify.jobs == 3 && set.verify.chunkRows == 500 && set.verify.rateLimitBytes == 20_000_000)
        #expect(try ConfigurationFile.parse(start + "verify: { rate_limit: off }", path: "f").verify == VerifySettings())
        #expect(try ConfigurationFile.parse(start, path: "f").verify == VerifySettings())
    }

    @Test func readsTheWholeFileOfTheDesign() throws {
        let configuration = try ConfigurationFile.parse(hotelFile, path: "lindero.yaml")
        #expect(configuration.backend == .shared)
        #expect(configuration.origin == "bot")
        #expect(
            configuration.databases == [
                DatabaseSettings(name: "bot", url: .environment("DATABASE_URL"), roles: ["bot_app"]),
                DatabaseSettings(name: "sync", url: .environment("SYNC_DATABASE_URL"), roles: ["sync_app"]),
            ])
        #expect(configuration.defaults == Defaults(unlistedColumn: .error, conflict: .queue))
        #expect(configuration.gates == Gates())
        #expect(configuration.replication == ReplicationSettings())
        #expect(configuration.tables.map(\.pattern) == ["Reservas", "Leads", "HotelApart"])
        let reservas = configuration.tables[0]
        #expect(reservas.match == ["bookingId"])
        #expect(reservas.insertOwners == ["sync"])
        #expect(reservas.deleteOwners == ["sync"])
        #expect(reservas.privateColumns == ["crmNotes"])
        #expect(reservas.owned["bot"] == ["lastBotInteraction", "whatsappThreadId", "crmNotes"])
        #expect(reservas.shared["arrivalDate"] == SharedColumnRule(policy: .prefer, side: "sync"))
        #expect(reservas.shared["updatedAt"] == SharedColumnRule(policy: .max))
        #expect(reservas.marks[""] == SourceMark(line: 13, column: 3))
        #expect(reservas.marks["whatsappThreadId"] == SourceMark(line: 19, column: 34))
        #expect(configuration.tables[1].owned == ["bot": ["*"]])
        #expect(configuration.tables[1].insertOwners == ["bot", "sync"])
    }

    @Test func readsEveryKeyOfReplicationAndGates() throws {
        let configuration = try ConfigurationFile.parse(
            """
            version: 1
            backend: replica
            origin: a
            databases:
              a: env:A
              b: { url: file:secrets/b, physical_standby: true }
            gates: { max_lag: 1.5s, max_lag_bytes: 1MiB, verify_age: 2d, max_clock_offset: 0, cutover_timeout: 1min,
                     max_retained_wal: 1_000MB }
            replication:
              snapshot: never
              slot: s
              publication: Mi publicación
              ddl: follow
              missing_row: count
              heartbeat: off
              memory_limit: 128MB
              group: { max_bytes: 16MB, max_changes: 20000 }
              streaming: on
              spill_dir: /var/lib/lindero
              copy: { jobs: 4, rate_limit: 50MB, chunk_size: 1GiB, index_memory: 64MB }
              omit_foreign_columns: true
            """, path: "x")
        var gates = Gates()
        gates.maxLagMilliseconds = 1_500
        gates.maxLagBytes = 1_048_576
        gates.verifyAgeSeconds = 172_800
        gates.maxClockOffsetMilliseconds = 0
        gates.cutoverTimeoutSeconds = 60
        gates.maxRetainedWALBytes = 1_000_000_000
        #expect(configuration.gates == gates)
        var replication = ReplicationSettings()
        replication.snapshot = .never
        replication.slot = "s"
        replication.publication = "Mi publicación"
        replication.ddl = .follow
        replication.missingRow = .count
        replication.heartbeatMilliseconds = 0
        replication.memoryLimitBytes = 128_000_000
        replication.group.maximumBytes = 16_000_000
        replication.group.maximumChanges = 20_000
        replication.streaming = .on
        replication.spillDirectory = "/var/lib/lindero"
        replication.copy.jobs = 4
        replication.copy.rateLimitBytes = 50_000_000
        replication.copy.chunkBytes = 1 << 30
        replication.copy.indexMemoryBytes = 64_000_000
        replication.omitForeignColumns = true
        #expect(configuration.replication == replication)
        #expect(configuration.databases[1].isPhysicalStandby)
        #expect(configuration.databases[1].url == .file("secrets/b"))
    }

    @Test func originDefaultsToTheFirstDatabaseInShared() throws {
        let configuration = try ConfigurationFile.parse("version: 1\ndatabases: { one: env:ONE }", path: "x")
        #expect(configuration.origin == "one")
        #expect(configuration.backend == .shared)
        #expect(configuration.tables.isEmpty)
    }

    @Test func cutoverSaysHowServicesMove() throws {
        let start = "version: 1\ndatabases: { bot: env:A, sync: env:B }\norigin: bot\n"
        let configuration = try ConfigurationFile.parse(
            start + """
                cutover:
                  fence: strict
                  pgbouncer:
                    admin: env:PGBOUNCER_ADMIN_URL
                    config: /etc/pgbouncer/databases.ini
                    databases: { sync: hotel_sync }
                    addresses: { bot: db1:5432/hotel, sync: "::1:6000/hotel" }
                  command: [/usr/local/bin/move-service, --fast, --fast, 3]
                """, path: "f")
        #expect(configuration.cutover.fence == .strict)
        #expect(configuration.cutover.command == ["/usr/local/bin/move-service", "--fast", "--fast", "3"])
        #expect(
            configuration.cutover.bouncer
                == BouncerSettings(
                    admin: .environment("PGBOUNCER_ADMIN_URL"), file: "/etc/pgbouncer/databases.ini", entries: ["sync": "hotel_sync"],
                    addresses: [
                        "bot": ServerAddress(host: "db1", port: 5432, database: "hotel"),
                        "sync": ServerAddress(host: "::1", port: 6000, database: "hotel"),
                    ]))
        #expect(try ConfigurationFile.parse(start, path: "f").cutover == CutoverSettings())
    }

    @Test func databaseURLAloneGivesSharedBackendWithoutTables() throws {
        let configuration = try ConfigurationFile.fromEnvironment([
            "DATABASE_URL": "postgresql://u:s3cret@h/d"
        ])
        #expect(configuration.backend == .shared)
        #expect(
            configuration.databases == [DatabaseSettings(name: "primary", url: .environment("DATABASE_URL"))])
        #expect(configuration.origin == "primary")
        #expect(configuration.tables.isEmpty)
    }

    @Test func emptyEnvironmentSaysWhatToSet() {
        #expect(throws: ConfigurationError.self) {
            try ConfigurationFile.fromEnvironment(["DATABASE_URL": ""])
        }
        do {
            _ = try ConfigurationFile.fromEnvironment([:])
        } catch {
            #expect("\(error)".contains("DATABASE_URL is not set"))
        }
    }
}
