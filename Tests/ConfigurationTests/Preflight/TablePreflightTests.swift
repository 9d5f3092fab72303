import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@Suite struct TablePreflightTests {
    /// The finding's fix is run as it stands, and then the finding must be gone.
    private func expectFixMends(
        _ code: PreflightFinding.Code, in scene: PreflightScene, on side: PreflightScene.Side
    ) async throws {
        let finding = try #require(await scene.finding(code))
        #expect(finding.severity == .blocker)
        try await scene.run(on: side, try #require(finding.fix))
        let after = await scene.finding(code)
        #expect(after == nil, "\(finding) still stands after its fix: \(String(describing: after))")
    }

    @Test(arguments: [
        "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
        "CREATE TABLE t (id int NOT NULL UNIQUE, a int)",
        "CREATE TABLE t (id int NOT NULL UNIQUE, a int NOT NULL UNIQUE);"
            + "ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_key; ALTER TABLE t DROP CONSTRAINT t_a_key",
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, a int NOT NULL UNIQUE)",
    ])
    func tableWithoutReplicaIdentityIsBlockedAndTheFixMendsIt(_ script: String) async throws {
        let scene = try await PreflightScene.make(script: script)
        try await expectFixMends(.replicaIdentity, in: scene, on: .source)
    }

    @Test func tableWithoutAnyKeyIsOfferedBothRemedies() async throws {
        let scene = try await PreflightScene.make(script: "CREATE TABLE t (a int)")
        let finding = try #require(await scene.finding(.replicaIdentity))
        #expect(finding.object == "t")
        #expect(finding.message.contains("PostgreSQL refuses its updates and deletes"))
        #expect(finding.fix?.contains("ADD PRIMARY KEY") == true)
        #expect(finding.fix?.contains("ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL;") == true)
        try await scene.run(on: .source, "ALTER TABLE t REPLICA IDENTITY FULL")
        #expect(await scene.report().blockers == [])
    }

    @Test func partitionWithoutIdentityIsBlocked() async throws {
        let script = """
            CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a);
            CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
            """
        let scene = try await PreflightScene.make(script: script)
        #expect(await scene.report().blockers == [])
        try await scene.run(on: .source, "ALTER TABLE part_1 REPLICA IDENTITY NOTHING")
        let finding = try #require(await scene.finding(.replicaIdentity))
        #expect(finding.object == "public.part_1")
        try await scene.run(on: .source, "ALTER TABLE public.part_1 REPLICA IDENTITY FULL")
        #expect(await scene.report().blockers == [])
    }

    @Test func unloggedTableIsBlocked() async throws {
        let scene = try await PreflightScene.make(script: "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)")
        let finding = try #require(await scene.finding(.unloggedTable))
        #expect(finding.severity == .blocker && finding.database == "bot")
        try await scene.run(on: .source, "ALTER TABLE t SET LOGGED")
        // A crash would empty the replica, whose progress would not know.
        #expect(await scene.finding(.unloggedTable)?.database == "sync")
        try await expectFixMends(.unloggedTable, in: scene, on: .target)
    }

    @Test func sharedColumnsOfASplitNeedTheOldRow() async throws {
        var scene = try await PreflightScene.make(backend: .split)
        scene.configuration.tables = [
            TableRule(
                pattern: "Reservas", owned: ["bot": ["*"]],
                shared: ["status": SharedColumnRule(policy: .lastWrite)])
        ]
        let findings = await scene.report().blockers.filter { $0.code == .replicaIdentityFull }
        #expect(Set(findings.map(\.database)) == ["bot", "sync"])
        for side in [PreflightScene.Side.source, .target] {
            try await scene.run(on: side, try #require(findings.first?.fix))
        }
        #expect(await scene.finding(.replicaIdentityFull) == nil)
    }

    @Test func identityThatDoesNotTravelIsBlocked() async throws {
        var scene = try await PreflightScene.make()
        scene.configuration.tables = [
            TableRule(
                pattern: "Reservas", match: ["bookingId"], privateColumns: ["id"], owned: ["bot": ["*"]])
        ]
        #expect(await scene.finding(.identityStays)?.object == "Reservas")
    }

    @Test func rowSecurityIsBlockedOnBothSides() async throws {
        var scene = try await PreflightScene.make()
        for side in [PreflightScene.Side.source, .target] {
            try await scene.run(on: side, "ALTER TABLE \"Reservas\" ENABLE ROW LEVEL SECURITY")
        }
        let source = scene.source.cluster
        let target = scene.target.cluster
        try await PreflightScene.withRole(on: source, "REPLICATION") { sourceRole in
            try await PreflightScene.withRole(on: target, "") { targetRole in
                scene.sourceUser = sourceRole
                scene.targetUser = targetRole
                let findings = await scene.report().blockers.filter { $0.code == .rowSecurity }
                #expect(findings.map(\.database) == ["bot", "sync"])
                #expect(findings.first?.fix == "ALTER ROLE \"\(sourceRole)\" BYPASSRLS;")
                try await scene.run(on: .source, findings[0].fix ?? "")
                try await scene.run(on: .target, findings[1].fix ?? "")
                #expect(await scene.finding(.rowSecurity) == nil)
            }
        }
    }

    @Test func missingTableIsCreatedOrBlocks() async throws {
        var scene = try await PreflightScene.make()
        try await scene.run(on: .target, "DROP TABLE \"Reservas\"")
        #expect(await scene.finding(.tableMissing)?.severity == .note)
        scene.configuration.replication.snapshot = .never
        let finding = try #require(await scene.finding(.tableMissing))
        #expect(finding.severity == .blocker)
        #expect(finding.fix?.contains("pg_dump --schema-only") == true)
    }

    @Test func missingColumnIsBlockedAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" DROP COLUMN status")
        try await expectFixMends(.columnMissing, in: scene, on: .target)
    }

    /// Added, it would be empty.
    @Test func aColumnThatMayHaveBeenRenamedIsNotOnlyAdded() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" RENAME COLUMN status TO former")
        let fix = await scene.finding(.columnMissing)?.fix
        #expect(fix?.hasSuffix("or, if that is \"former\" under a new name: ALTER TABLE \"public\".\"Reservas\" RENAME COLUMN \"former\" TO \"status\";") == true, "\(fix ?? "")")
    }

    @Test func otherTypeIsBlockedAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make(
            script: "CREATE TABLE t (id int PRIMARY KEY, a jsonb, b int)")
        try await scene.run(
            on: .target, "ALTER TABLE t ALTER a TYPE boolean USING true, ALTER b TYPE bigint")
        let finding = try #require(await scene.finding(.typeMismatch))
        #expect(finding.object == "t.a")
        #expect(finding.message.contains("boolean here and jsonb in bot"))
        #expect(await scene.report().blockers.count == 1)
        try await scene.run(on: .target, "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a jsonb")
        #expect(await scene.report().blockers == [])
    }

    @Test func narrowerTypesAreNamedAndTheFixMendsThem() async throws {
        let scene = try await PreflightScene.make(
            script: """
                CREATE DOMAIN price AS numeric; CREATE TABLE t (id int PRIMARY KEY, n numeric, p price, w timestamptz, a numeric(9,3)[],
                  v text, d numeric(9,2), same numeric(9,2), wider numeric(5,1))
                """)
        try await scene.run(
            on: .target,
            """
            ALTER TABLE t ALTER n TYPE numeric(10,2), ALTER p TYPE numeric(9,2), ALTER w TYPE timestamptz(0), ALTER a TYPE numeric(9,1)[],
              ALTER v TYPE varchar(3), ALTER d TYPE numeric(5,2), ALTER wider TYPE numeric(9,2)
            """)
        func narrower(_ severity: PreflightFinding.Severity) async -> [PreflightFinding] {
            await scene.report().findings.filter { $0.code == .typeNarrower && $0.severity == severity }
        }
        #expect(await narrower(.blocker).compactMap(\.object).sorted() == ["t.a", "t.n", "t.p", "t.w"])
        #expect(await narrower(.warning).compactMap(\.object).sorted() == ["t.d", "t.v"])
        #expect(await narrower(.blocker).first { $0.object == "t.n" }?.message.contains("numeric(10,2) here and numeric in bot") == true)
        for finding in await narrower(.blocker) + narrower(.warning) { try await scene.run(on: .target, finding.fix ?? "") }
        #expect(await scene.finding(.typeNarrower) == nil)
        #expect(await scene.report().blockers == [])
    }

    @Test func enumOfAnotherNameIsAnotherType() async throws {
        let scene = try await PreflightScene.make(
            script:
                "CREATE TYPE a AS ENUM ('x'); CREATE TYPE b AS ENUM ('x'); CREATE TABLE t (id int PRIMARY KEY, e a)"
        )
        #expect(await scene.report().blockers == [])
        try await scene.run(on: .target, "ALTER TABLE t DROP COLUMN e; ALTER TABLE t ADD COLUMN e b")
        #expect(await scene.finding(.typeMismatch)?.object == "t.e")
    }

    @Test func enumThatLacksLabelsIsBlockedAndTheFixMendsIt() async throws {
        let labels = "CREATE TYPE mood AS ENUM ('low', 'mid', 'it''s', 'high', 'top');"
        let tables = "CREATE DOMAIN moods AS mood[]; CREATE TYPE pair AS (n int, ms moods); CREATE TABLE t (id int PRIMARY KEY, p pair[])"
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, labels + tables)
        try await scene.run(on: .target, labels + tables)
        #expect(await scene.finding(.enumLabel) == nil)
        try await scene.run(
            on: .target, "DROP TABLE t; DROP TYPE mood CASCADE; DROP TYPE pair; CREATE TYPE mood AS ENUM ('high', 'own', 'low');" + tables)
        let report = await scene.report()
        let finding = try #require(report.findings.first { $0.code == .enumLabel }, "\(report.findings)")
        #expect(finding.severity == .blocker && finding.database == "sync")
        #expect(finding.object == "mood" && finding.message.contains("t.p"))
        #expect(finding.message.contains("lacks 'mid', 'it''s', 'top', which bot has"))
        let fix = #"ALTER TYPE "public"."mood" ADD VALUE IF NOT EXISTS 'mid' BEFORE 'high'; "#
            + #"ALTER TYPE "public"."mood" ADD VALUE IF NOT EXISTS 'it''s' BEFORE 'high'; "#
            + #"ALTER TYPE "public"."mood" ADD VALUE IF NOT EXISTS 'top';"#
        let doubt = #" /* If that is a label under a new name, rename it instead, which older rows follow: "#
            + #"ALTER TYPE "public"."mood" RENAME VALUE 'own' TO 'mid'; */"#
        #expect(finding.fix == fix + doubt)
        try await scene.run(on: .target, fix + doubt)
        // Labels of its own do no harm where nothing goes back.
        #expect(await scene.finding(.enumLabel) == nil)
    }

    private static func column(_ type: String) -> String { "; CREATE TABLE t (id int PRIMARY KEY, p \(type))" }

    /// Values of composites go by their place, and numbers are rounded, without an error.
    @Test(arguments: [
        ("CREATE TYPE c AS (a int, b int)", "CREATE TYPE c AS (b int, a int)", "c"),
        ("CREATE TYPE c AS (a numeric)", "CREATE TYPE c AS (a numeric(5,1))", "c[]"),
        ("CREATE TYPE c AS (a int)", "CREATE TYPE c AS (a int, b text)", "c"),
        ("CREATE TYPE c AS (a int, b int); CREATE DOMAIN d AS c", "CREATE TYPE c AS (b int, a int); CREATE DOMAIN d AS c", "d"),
        ("CREATE TYPE c AS (a int, b int); CREATE TYPE n AS (c c)", "CREATE TYPE c AS (b int, a int); CREATE TYPE n AS (c c)", "n"),
        ("CREATE DOMAIN c AS numeric(9,4)", "CREATE DOMAIN c AS numeric(9,2)", "c[]"),
        ("CREATE TYPE c AS RANGE (SUBTYPE = timestamp)", "CREATE TYPE c AS RANGE (SUBTYPE = date)", "c"),
        ("CREATE TYPE c AS (a int)", "CREATE TYPE c AS ENUM ('a')", "c[]"),
    ])
    func typeThatIsMadeOfSomethingElseIsBlocked(source: String, target: String, type: String) async throws {
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, source + Self.column(type))
        try await scene.run(on: .target, target + Self.column(type))
        let finding = try #require(await scene.finding(.typeMismatch))
        #expect(finding.severity == .blocker && finding.object == "t.p")
        #expect(finding.message.hasPrefix("type public.c of column \"p\" of t is "), "\(finding)")
        if target.contains("(b int, a int)") {
            #expect(finding.message.hasSuffix(#"is ("b" integer, "a" integer) here and ("a" integer, "b" integer) in bot"#), "\(finding)")
        }
        let emptied = "DROP TABLE t; DROP TYPE c CASCADE; DROP DOMAIN IF EXISTS d; DROP TYPE IF EXISTS n;"
        try await scene.run(on: .target, emptied + source + Self.column(type))
        #expect(await scene.report().blockers == [])
    }

    /// Read as text, an attribute may be wider.
    @Test func compositeWithMoreRoomTakesWhatComes() async throws {
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, "CREATE TYPE c AS (a int, b numeric(5,1), c varchar(3))" + Self.column("c[]"))
        try await scene.run(on: .target, "CREATE TYPE c AS (a bigint, b numeric, c text)" + Self.column("c[]"))
        #expect(await scene.report().blockers == [])
    }

    @Test func domainWithLessRoomIsToldAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, "CREATE DOMAIN d AS varchar(20)" + Self.column("d"))
        try await scene.run(on: .target, "CREATE DOMAIN d AS varchar(5)" + Self.column("d"))
        let finding = try #require(await scene.finding(.typeNarrower))
        #expect(finding.message.contains("is character varying(5) here and character varying(20) in bot"), "\(finding)")
        try await scene.run(on: .target, try #require(finding.fix))
        #expect(await scene.finding(.typeNarrower) == nil)
        #expect(await scene.report().blockers == [])
    }

    @Test(arguments: [("int", "smallint"), ("numeric(9,4)", "numeric(9,2)"), ("text", "int")])
    func domainOverAnotherTypeIsBlockedAndTheFixMendsIt(source: String, target: String) async throws {
        let scene = try await PreflightScene.make(script: "")
        try await scene.run(on: .source, "CREATE DOMAIN d AS \(source); CREATE DOMAIN e AS d" + Self.column("e"))
        try await scene.run(on: .target, "CREATE DOMAIN d AS \(target); CREATE DOMAIN e AS d" + Self.column("e"))
        try await expectFixMends(.typeMismatch, in: scene, on: .target)
        #expect(await scene.report().blockers == [])
    }

    @Test func targetWithoutTheKeyIsBlockedAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" DROP CONSTRAINT \"Reservas_pkey\"")
        try await expectFixMends(.targetKey, in: scene, on: .target)
    }

    @Test func generatedColumnWhereTheSourceHasValuesIsBlockedAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(
            on: .target,
            """
            ALTER TABLE "Reservas" DROP COLUMN status;
            ALTER TABLE "Reservas" ADD COLUMN status text GENERATED ALWAYS AS ("bookingId") STORED
            """)
        try await expectFixMends(.targetGenerated, in: scene, on: .target)
    }

    @Test(arguments: ["", "ALTER TABLE t REPLICA IDENTITY FULL", "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key"])
    func columnThatTheTargetAlwaysNumbersIsBlockedAndTheFixMendsIt(identity: String) async throws {
        let scene = try await PreflightScene.make(
            script: "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int GENERATED ALWAYS AS IDENTITY)")
        try await scene.run(on: .source, identity)
        #expect(await scene.finding(.identityAlways)?.object == "t.n")
        try await expectFixMends(.identityAlways, in: scene, on: .target)
    }

    @Test func keyThatTheTargetAlwaysNumbersIsBlockedOnlyWhereRowsAreFoundByAnother() async throws {
        let scene = try await PreflightScene.make(
            script: "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL UNIQUE)")
        #expect(await scene.report().blockers == [])
        try await scene.run(on: .source, "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key")
        #expect(await scene.finding(.identityAlways)?.object == "t.id")
        try await expectFixMends(.identityAlways, in: scene, on: .target)
    }

    @Test func foreignNotNullColumnWithoutDefaultIsBlocked() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" ADD COLUMN extra int NOT NULL")
        let finding = try #require(await scene.finding(.foreignNotNull))
        #expect(finding.severity == .blocker)
        #expect(finding.object == "Reservas.extra")
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" ALTER COLUMN extra SET DEFAULT 0")
        #expect(await scene.report().blockers == [])
    }

    @Test func privateNotNullColumnInTheTargetIsBlocked() async throws {
        var scene = try await PreflightScene.make()
        scene.configuration.tables = [
            TableRule(pattern: "Reservas", privateColumns: ["status"], owned: ["bot": ["*"]])
        ]
        #expect(await scene.report().blockers == [])
        try await scene.run(on: .target, "ALTER TABLE \"Reservas\" ALTER status SET NOT NULL")
        #expect(await scene.finding(.foreignNotNull)?.object == "Reservas.status")
    }

    @Test func triggerThatFiresForReplicatedRowsIsAWarning() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(
            on: .target,
            """
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER ordinary BEFORE INSERT ON "Reservas" FOR EACH ROW EXECUTE FUNCTION f();
            CREATE TRIGGER eager BEFORE INSERT ON "Reservas" FOR EACH ROW EXECUTE FUNCTION f();
            ALTER TABLE "Reservas" ENABLE ALWAYS TRIGGER eager;
            """)
        let finding = try #require(await scene.finding(.triggers))
        #expect(finding.severity == .warning)
        #expect(finding.message.contains("\"eager\""))
    }

    @Test func deferrableKeyOfTheTargetIsWarnedAboutAndTheFixMendsIt() async throws {
        let scene = try await PreflightScene.make(
            script: "CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT \"later key\" UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        let finding = try #require(await scene.finding(.deferrableKey))
        #expect(finding.severity == .warning)
        try await scene.run(on: .target, try #require(finding.fix))
        #expect(await scene.finding(.deferrableKey) == nil)
    }

    @Test func truncationOfOnePartitionIsNoted() async throws {
        let scene = try await PreflightScene.make(
            script: "CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE part_1 PARTITION OF parts DEFAULT")
        #expect(await scene.finding(.partitionTruncate)?.severity == .note)
    }
}
