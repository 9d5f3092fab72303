import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// Keys, references, deletes and triggers of a split.
@Suite struct SplitKeyPreflightTests {
    private func scene(_ schema: String, _ tables: String) async throws -> PreflightScene {
        var scene = try await PreflightScene.make(script: schema, backend: .split)
        let lines = tables.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
        scene.configuration = try ConfigurationFile.parse(
            "version: 1\nbackend: split\ndatabases: { bot: env:A, sync: env:B }\norigin: bot\ntables:\n\(lines)", path: "f")
        return scene
    }

    private func blockers(_ scene: PreflightScene) async -> [String] {
        await scene.report().blockers.map { "\($0.code.rawValue) \($0.database ?? "-") \($0.object ?? "-")" }
    }

    @Test func uniqueKeysThatTwoSidesCanBothMakeAreNamed() async throws {
        let schema = """
            CREATE TABLE t (code text PRIMARY KEY, email text UNIQUE, badge text UNIQUE, token uuid UNIQUE, room text, night date);
            CREATE UNIQUE INDEX room_night ON t (lower(room)) WHERE night IS NOT NULL;
            ALTER TABLE t REPLICA IDENTITY FULL;
            """
        let scene = try await scene(
            schema,
            """
            t: { match: [code], insert: sync, delete: sync, columns: { sync: [code, badge, room], bot: [night],
                 shared: { email: { policy: max }, token: { policy: max } } } }
            """)
        // badge has one owner, token is random; room and night are written by two.
        #expect(await blockers(scene) == ["unique_key bot t.room", "unique_key bot t.email"])
        let finding = try #require(await scene.finding(.uniqueKey))
        #expect(finding.message.contains("unique index room_night"))
        // In a split nothing is set aside: that is said, and helps nobody.
        var patient = scene
        patient.configuration.tables[0].onError = .quarantine
        #expect(await blockers(patient) == ["unique_key bot t.room", "unique_key bot t.email"])
        #expect(try #require(await patient.finding(.onError)).severity == .warning)
        #expect(await scene.finding(.onError) == nil)
    }

    @Test func aKeyThatBothSidesInsertIsNamedAndANumberSharedOutIsNot() async throws {
        let scene = try await scene(
            "CREATE TABLE t (id serial UNIQUE, code text PRIMARY KEY, label text UNIQUE);",
            "t: { match: [code], insert: [bot, sync], delete: sync, fill: { label: none }, columns: { sync: [id, label, code] } }")
        // Every row that bot makes would be called the same.
        #expect(await blockers(scene).filter { $0.hasPrefix("unique") } == ["unique_key bot t.label"])
    }

    @Test func deletesOfBothSidesAreAWarning() async throws {
        let schema = "CREATE TABLE t (id text PRIMARY KEY, a text, b text);"
        let both = try await scene(schema, "t: { match: [id], insert: sync, columns: { sync: [id, a], bot: [b] } }")
        #expect(await both.finding(.deletedByBoth)?.severity == .warning)
        let one = try await scene(schema, "t: { match: [id], insert: sync, delete: bot, columns: { sync: [id, a], bot: [b] } }")
        #expect(await one.finding(.deletedByBoth) == nil)
    }

    private static let hotels = """
        CREATE TABLE hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE);
        CREATE TABLE rooms (number text PRIMARY KEY, "hotelId" int NOT NULL REFERENCES hotels ON DELETE CASCADE);
        ALTER TABLE hotels REPLICA IDENTITY FULL;
        """

    @Test func referencesByNumbersThatDifferNeedToBeSaid() async throws {
        let hotels = "hotels: { match: [code], insert: sync, delete: sync, private: [id], columns: { sync: '*' } }"
        func tables(_ extra: String, insert: String = "sync") -> String {
            hotels + "\nrooms: { match: [number], insert: \(insert), delete: sync, \(extra) columns: { sync: '*' } }"
        }
        let scene = try await scene(Self.hotels, tables(""))
        #expect(await blockers(scene) == ["foreign_key_cut bot rooms.hotelId"])
        #expect(await scene.finding(.foreignKeyCut)?.fix == "references: { hotelId: hotels } under tables.rooms")
        let said = try await self.scene(Self.hotels, tables("references: { hotelId: hotels },"))
        #expect(await blockers(said) == [])
        let nullify = try await self.scene(Self.hotels, tables("references: { hotelId: hotels }, on_delete: nullify,"))
        #expect(await blockers(nullify) == ["foreign_key_action bot rooms.hotelId", "foreign_key_action sync rooms.hotelId"])
        // Where the number itself travels with every row, it means the same.
        let same = try await self.scene(Self.hotels, tables("").replacing("private: [id], ", with: ""))
        #expect(await blockers(same) == [])
        // A table whose rows stay.
        let alone = try await self.scene(Self.hotels, "rooms: { match: [number], insert: sync, delete: sync, columns: { sync: '*' } }")
        #expect(await blockers(alone) == ["foreign_key_cut bot rooms.hotelId"])
        #expect(await alone.finding(.foreignKeyCut)?.fix?.hasPrefix("list hotels under tables:") == true)
    }

    @Test func referencesThatCouldNotBeKeptAreNamed() async throws {
        let hotels = "hotels: { match: [code], insert: sync, delete: bot, columns: { sync: '*' } }"
        func tables(_ extra: String, columns: String = "sync: '*'") -> String {
            hotels + "\nrooms: { match: [number], insert: sync, delete: sync, references: { hotelId: hotels }, \(extra) columns: { \(columns) } }"
        }
        let schema = Self.hotels.replacing(" ON DELETE CASCADE", with: "")
        #expect(await blockers(try await scene(schema, tables(""))) == ["foreign_key_action bot rooms.hotelId", "foreign_key_action sync rooms.hotelId"])
        let delete = try await scene(schema, tables("on_delete: delete,"))
        #expect(await blockers(delete) == ["replica_identity bot rooms.hotelId", "replica_identity sync rooms.hotelId"])
        for side in [PreflightScene.Side.source, .target] { try await delete.run(on: side, "ALTER TABLE rooms REPLICA IDENTITY FULL") }
        #expect(await blockers(delete) == [])
        for policy in ["max", "min", "delta", "queue"] {
            let shared = try await scene(
                schema + "ALTER TABLE rooms REPLICA IDENTITY FULL;",
                tables("on_delete: delete,", columns: "sync: [number], shared: { hotelId: { policy: \(policy) } }"))
            #expect(await blockers(shared).contains("policy_missing - rooms.hotelId"), "\(policy)")
        }
        let last = try await scene(
            schema + "ALTER TABLE rooms REPLICA IDENTITY FULL;",
            tables("on_delete: delete,", columns: "sync: [number], shared: { hotelId: { policy: last_write } }"))
        #expect(await blockers(last) == [])
    }

    /// Else it would not be known what a number meant that is used again.
    @Test func aDeletedRowHasToTellTheNumberThatOthersKnowItBy() async throws {
        let schema = Self.hotels + "ALTER TABLE hotels REPLICA IDENTITY USING INDEX hotels_code_key;"
        func tables(_ extra: String) -> String {
            "hotels: { match: [code], insert: sync, delete: sync, private: [id], columns: { sync: '*' } }\n"
                + "rooms: { match: [number], insert: sync, delete: sync, \(extra) columns: { sync: '*' } }"
        }
        #expect(await blockers(try await scene(schema, tables(""))) == ["foreign_key_cut bot rooms.hotelId"])
        let scene = try await scene(schema, tables("references: { hotelId: hotels },"))
        #expect(await blockers(scene) == ["replica_identity bot hotels", "replica_identity sync hotels"])
        let finding = try #require(await scene.finding(.replicaIdentity))
        #expect(finding.message.contains("known it by \"id\"") && finding.fix?.hasSuffix("on (\"code\", \"id\")") == true)
        for side in [PreflightScene.Side.source, .target] {
            try await scene.run(
                on: side, "CREATE UNIQUE INDEX told ON hotels (code, id); ALTER TABLE hotels REPLICA IDENTITY USING INDEX told")
        }
        #expect(await blockers(scene) == [])
    }

    @Test func deletesThatLeadInACircleAreNamed() async throws {
        let scene = try await scene(
            "CREATE TABLE t (id serial PRIMARY KEY, code text NOT NULL UNIQUE, up int REFERENCES t); ALTER TABLE t REPLICA IDENTITY FULL;",
            "t: { match: [code], insert: sync, delete: sync, references: { up: t }, on_delete: delete, columns: { sync: '*' } }")
        #expect(await blockers(scene) == ["foreign_key_action - t.up"])
    }

    private static let chain = """
        CREATE TABLE hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, up int REFERENCES hotels);
        CREATE TABLE rooms (id serial PRIMARY KEY, number text NOT NULL UNIQUE, "hotelId" int REFERENCES hotels);
        CREATE TABLE beds (name text PRIMARY KEY, "roomId" int NOT NULL REFERENCES rooms);
        ALTER TABLE hotels REPLICA IDENTITY FULL;
        ALTER TABLE rooms REPLICA IDENTITY FULL;
        ALTER TABLE beds REPLICA IDENTITY FULL;
        """

    @Test func aColumnOfAChainThatMayNotBeEmptyIsNamed() async throws {
        func tables(beds: String) -> String {
            """
            hotels: { match: [code], insert: bot, delete: bot, references: { up: hotels }, columns: { bot: '*' } }
            rooms: { match: [number], insert: sync, delete: bot, references: { hotelId: hotels }, on_delete: delete, columns: { sync: '*' } }
            beds: { match: [name], insert: bot, delete: bot, references: { roomId: rooms }, on_delete: \(beds), columns: { bot: '*' } }
            """
        }
        // Rooms go on sync, which may not delete them, when the delete of their hotel arrives; bot puts beds into them.
        let keep = try await scene(Self.chain, tables(beds: "keep"))
        #expect(await blockers(keep) == ["foreign_key_action bot beds.roomId", "foreign_key_action sync beds.roomId"])
        let delete = try await scene(Self.chain, tables(beds: "delete"))
        #expect(await blockers(delete) == [])
        // A room that waits for its hotel: beds in it would come before.
        for side in [PreflightScene.Side.source, .target] {
            try await delete.run(on: side, "ALTER TABLE rooms ALTER COLUMN \"hotelId\" SET NOT NULL; ALTER TABLE hotels ALTER COLUMN up SET NOT NULL")
        }
        #expect(
            await blockers(delete).sorted()
                == ["hotels.up", "rooms.hotelId"].flatMap { column in ["bot", "sync"].map { "foreign_key_action \($0) \(column)" } }.sorted())
        for finding in await delete.report().blockers {
            try await delete.run(on: finding.database == "bot" ? .source : .target, try #require(finding.fix))
        }
        #expect(await blockers(delete) == [])
    }

    @Test func cascadesStayWithinWhatTheSideMayDo() async throws {
        let tables = """
            hotels: { match: [code], insert: sync, delete: bot, columns: { sync: '*' } }
            rooms: { match: [number], insert: sync, delete: sync, columns: { sync: '*' } }
            """
        let scene = try await scene(Self.hotels, tables)
        #expect(await blockers(scene) == ["foreign_key_action bot rooms.hotelId"])
        #expect(await scene.finding(.foreignKeyAction)?.message.contains("deletes rows of rooms, which bot may not") == true)
        try await scene.run(
            on: .source,
            "ALTER TABLE rooms DROP CONSTRAINT \"rooms_hotelId_fkey\", ADD FOREIGN KEY (\"hotelId\") REFERENCES hotels ON DELETE SET NULL")
        #expect(await scene.finding(.foreignKeyAction)?.message.contains("changes \"hotelId\" of rooms, which bot does not own") == true)
        try await scene.run(
            on: .source, "ALTER TABLE rooms DROP CONSTRAINT \"rooms_hotelId_fkey\", ADD FOREIGN KEY (\"hotelId\") REFERENCES hotels")
        #expect(await blockers(scene) == [])
    }

    @Test func triggersThatWriteForeignColumnsAreNamedOnTheirSide() async throws {
        let schema = """
            CREATE TABLE t (id text PRIMARY KEY, a text, b text, changed timestamptz);
            ALTER TABLE t REPLICA IDENTITY FULL;
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.b := NEW.a; NEW.changed = now(); RETURN NEW; END $$;
            CREATE TRIGGER touched BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
            """
        let scene = try await scene(
            schema,
            "t: { match: [id], insert: sync, delete: sync, columns: { sync: [id, a], bot: [b], shared: { changed: { policy: max } } } }")
        #expect(await blockers(scene) == ["foreign_trigger sync t.b"])
        let finding = try #require(await scene.finding(.foreignTrigger))
        try await scene.run(on: .target, try #require(finding.fix?.components(separatedBy: "; or ").first))
        #expect(await blockers(scene) == [])
    }

    @Test func columnThatAlwaysIsNumberedWhereItArrivesIsNamed() async throws {
        let scene = try await scene(
            "CREATE TABLE t (id text PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
            "t: { match: [id], insert: bot, delete: bot, columns: { bot: [n], sync: [v] } }")
        #expect(await blockers(scene) == ["identity_always sync t.n"])
        try await scene.run(on: .target, try #require(await scene.finding(.identityAlways)?.fix))
        #expect(await blockers(scene) == [])
    }

    @Test func triggersThatFireForWhatArrivesMayNotWriteWhatLeaves() async throws {
        let scene = try await scene(
            """
            CREATE TABLE t (id text PRIMARY KEY, a text, b text, changed timestamptz);
            ALTER TABLE t REPLICA IDENTITY FULL;
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed = now(); NEW.a := NEW.b; RETURN NEW; END $$;
            CREATE TRIGGER touched BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
            """,
            "t: { match: [id], insert: sync, delete: sync, columns: { sync: [id, a], bot: [b], shared: { changed: { policy: max } } } }")
        try await scene.run(on: .source, "ALTER TABLE t DISABLE TRIGGER touched")
        #expect(await blockers(scene) == [])
        try await scene.run(on: .target, "ALTER TABLE t ENABLE ALWAYS TRIGGER touched")
        #expect(await blockers(scene) == ["triggers sync t.a"])
        let finding = try #require(await scene.report().blockers.first)
        #expect(finding.message.contains("[a, changed]"))
        try await scene.run(on: .target, try #require(finding.fix))
        #expect(await blockers(scene) == [])
    }

    @Test func checksOverColumnsOfBothSidesAreNamed() async throws {
        let scene = try await scene(
            """
            CREATE TABLE t (id text PRIMARY KEY, a int, b int, visits int, CHECK (a > 0), CONSTRAINT both_known CHECK (a < b));
            ALTER TABLE t REPLICA IDENTITY FULL;
            """,
            "t: { match: [id], insert: sync, delete: sync, columns: { sync: [id, a], bot: [b], shared: { visits: { policy: delta } } } }")
        #expect(await blockers(scene) == ["check_constraint bot t.a"])
        let finding = try #require(await scene.finding(.checkConstraint))
        #expect(finding.message.contains("both_known") && finding.message.contains("[a, b]"))
        for side in [PreflightScene.Side.source, .target] { try await scene.run(on: side, try #require(finding.fix?.components(separatedBy: " on both").first)) }
        #expect(await blockers(scene) == [])
        // Each side's decrement keeps it, their sum does not.
        try await scene.run(on: .target, "ALTER TABLE t ADD CHECK (visits >= 0)")
        #expect(await blockers(scene) == ["check_constraint sync t.visits"])
    }

    @Test func uniqueValuesThatAChangedKeyHoldsBackAreNamed() async throws {
        let schema = "CREATE TABLE t (id text PRIMARY KEY, email text UNIQUE, badge text); CREATE UNIQUE INDEX badges ON t (lower(badge)); ALTER TABLE t REPLICA IDENTITY FULL;"
        let tables = "t: { match: [id], insert: bot, delete: bot, columns: { bot: [id], sync: [email, badge] } }"
        let scene = try await scene(schema, tables)
        #expect(await blockers(scene) == ["unique_key_move bot t.badge", "unique_key_move bot t.email"])
        // Of a constraint and of an index alike, there and nowhere else.
        for finding in await scene.report().blockers {
            try await scene.run(on: .source, try #require(finding.fix?.components(separatedBy: " on bot").first))
        }
        #expect(await blockers(scene) == [])
        let one = try await self.scene(schema, "t: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }")
        #expect(await blockers(one) == [])
    }

    @Test func rolesThatMayTruncateAreNamed() async throws {
        var scene = try await scene("CREATE TABLE t (id text PRIMARY KEY)", "t: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }")
        try await PreflightScene.withRole(on: scene.target.cluster, "") { role in
            scene.configuration.databases[1].roles = [role]
            try await scene.run(on: .target, "GRANT SELECT, INSERT, TRUNCATE ON t TO \(role)")
            let finding = try #require(await scene.finding(.truncateRight))
            #expect(finding.severity == .warning && finding.database == "sync")
            try await scene.run(on: .target, try #require(finding.fix?.components(separatedBy: "; and ").first))
            #expect(await scene.finding(.truncateRight) == nil)
            try await scene.run(on: .target, "DROP OWNED BY \(role)")
        }
    }

    @Test func oneServerForBothSidesNeedsTwoSlots() async throws {
        let cluster = try await PostgresCluster.start(settings: ["max_replication_slots": "2"])
        defer { cluster.remove() }
        var scene = try await PreflightScene.make(source: cluster, target: cluster, script: "CREATE TABLE t (id text PRIMARY KEY)", backend: .split)
        scene.configuration.tables = [TableRule(pattern: "t", match: ["id"], owned: ["bot": ["*"]])]
        #expect(await blockers(scene) == [])
        try await scene.run(on: .source, "SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
        #expect(await blockers(scene) == ["replication_slots bot -"])
    }

    @Test func bothServersMustBeReadyForBothParts() async throws {
        let poor = try await PostgresCluster.start(settings: [
            "wal_level": "replica", "max_wal_senders": "0", "max_replication_slots": "0",
        ])
        defer { poor.remove() }
        var scene = try await PreflightScene.make(target: poor, script: "CREATE TABLE t (id text PRIMARY KEY)", backend: .split)
        scene.configuration.tables = [TableRule(pattern: "t", match: ["id"], owned: ["bot": ["*"]])]
        let codes = Set(await scene.report().blockers.filter { $0.database == "sync" }.map(\.code))
        #expect(codes.isSuperset(of: [.walLevel, .replicationSlots, .walSenders, .originSlots]))
    }

    /// The stream has a delete and an insert, and the new row has no more than what the moving side sends.
    @Test func aMoveToAnotherPartitionThatLosesTheOtherOwnersColumnsIsRefused() async throws {
        let role = "mover_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let schema = """
            CREATE TABLE rooms (hotel text, id int, remark text, state text, PRIMARY KEY (hotel, id)) PARTITION BY LIST (hotel);
            CREATE TABLE rooms_a PARTITION OF rooms FOR VALUES IN ('a');
            ALTER TABLE rooms REPLICA IDENTITY FULL; ALTER TABLE rooms_a REPLICA IDENTITY FULL;
            """
        func tables(_ columns: String) -> String { "rooms: { match: [hotel, id], insert: bot, delete: bot, columns: { \(columns) } }" }
        var two = try await scene(schema, tables("bot: [hotel, id, remark], sync: [state]"))
        let finding = try #require(await two.finding(.partitionMove))
        #expect(finding.severity == .blocker && finding.database == "bot" && finding.object == "rooms.hotel")
        #expect(finding.message.contains("on sync the row would lose its [state]") && finding.message.contains("databases.bot.roles does not say"))
        #expect(await two.report().findings.filter { $0.code == .partitionMove }.count == 1)

        // It is the rights of bot's services that count.
        try await two.run(on: .source, "CREATE ROLE \(role); GRANT UPDATE ON rooms TO \(role)")
        two.configuration.databases[0].roles = [role]
        #expect(await two.finding(.partitionMove)?.fix?.hasPrefix("REVOKE UPDATE ON \"public\".\"rooms\" FROM \"\(role)\";") == true)
        try await two.run(on: .source, "REVOKE UPDATE ON rooms FROM \(role); GRANT UPDATE (id, remark) ON rooms TO \(role)")
        #expect(await two.finding(.partitionMove) == nil)
        // On every level, by its own rights.
        try await two.run(on: .source, "CREATE TABLE rooms_b PARTITION OF rooms FOR VALUES IN ('b') PARTITION BY RANGE (id)")
        #expect(await two.finding(.partitionMove)?.object == "rooms.id")
        try await two.run(on: .source, "REVOKE UPDATE (id) ON rooms FROM \(role)")
        #expect(await two.finding(.partitionMove) == nil)
        try await two.run(on: .source, "GRANT UPDATE ON rooms_b TO \(role)")
        #expect(await two.finding(.partitionMove)?.object == "rooms.hotel")
        try await two.run(on: .source, "REVOKE UPDATE ON rooms_b FROM \(role)")
        // Of a role that is not there nothing is known.
        two.configuration.databases[0].roles = [role, role + "_gone"]
        #expect(await two.finding(.partitionMove)?.database == "bot")
        two.configuration.databases[0].roles = [role]
        // Whoever has the right moves rows, whatever the file says of the column.
        two.configuration.databases[1].roles = [role]
        try await two.run(on: .target, "CREATE ROLE \(role); GRANT UPDATE ON rooms TO \(role)")
        let others = try #require(await two.finding(.partitionMove))
        #expect(others.database == "sync" && others.message.contains("on bot the row would lose its [remark]"))
        try await two.run(on: .target, "DROP OWNED BY \(role); DROP ROLE \(role)")
        try await two.run(on: .source, "DROP OWNED BY \(role); DROP ROLE \(role)")

        // What one side writes, or both share, goes along; what is private to the other side stays there, and goes too.
        for columns in ["bot: '*'", "bot: [hotel, id, remark], shared: { state: { policy: last_write } }"] {
            #expect(await (try scene(schema, tables(columns))).finding(.partitionMove) == nil)
        }
        let hidden = tables("bot: [hotel, id, remark], sync: [state]").replacingOccurrences(of: "match:", with: "private: [state], match:")
        #expect(await (try scene(schema, hidden)).finding(.partitionMove)?.severity == .blocker)
    }

    /// PostgreSQL's foreign keys do not act on what arrives.
    @Test func rowsThatMayBeLeftBehindByAForeignKeyOnMatchAreTold() async throws {
        let schema = """
            CREATE TABLE hotels (name text PRIMARY KEY, remark text);
            CREATE TABLE beds (code text PRIMARY KEY, hotel text REFERENCES hotels);
            """
        func tables(_ beds: String) -> String {
            "hotels: { match: [name], insert: bot, delete: bot, columns: { bot: '*' } }\n"
                + "beds: { match: [code], insert: \(beds), delete: \(beds), columns: { \(beds): '*' } }"
        }
        let apart = try await scene(schema, tables("sync"))
        let finding = try #require(await apart.finding(.foreignKeyCut))
        #expect(finding.severity == .warning && finding.object == "beds.hotel")
        #expect(finding.message.contains("bot may delete a row of hotels while sync lets [hotel] of beds refer to it"))
        let together = try await scene(schema, tables("bot"))
        #expect(await together.finding(.foreignKeyCut) == nil)
    }
}
