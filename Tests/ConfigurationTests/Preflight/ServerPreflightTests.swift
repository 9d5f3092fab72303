import Foundation
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@Suite struct ServerPreflightTests {
    @Test func twoReadyDatabasesAreNotBlocked() async throws {
        let scene = try await PreflightScene.make()
        let report = await scene.report()
        #expect(report.blockers == [], "\(report.findings)")
    }

    @Test func targetWithoutPreparedTransactionsIsBlockedWhenTheyAreAskedFor() async throws {
        let poor = try await PostgresCluster.start(settings: ["max_prepared_transactions": "0"])
        defer { poor.remove() }
        var scene = try await PreflightScene.make(target: poor)
        #expect(await scene.finding(.preparedDisabled) == nil)
        scene.configuration.replication.twoPhase = true
        let finding = try #require(await scene.finding(.preparedDisabled))
        #expect(finding.severity == .blocker && finding.database == "sync")
        #expect(finding.fix?.hasPrefix("ALTER SYSTEM SET max_prepared_transactions = '20';") == true)
    }

    /// Everything that a dump holds, of both databases and of their servers, is the same before and after.
    @Test(arguments: LinderoConfiguration.Backend.allCases)
    func checkChangesNothing(_ backend: LinderoConfiguration.Backend) async throws {
        // Servers of their own: nobody else makes anything there meanwhile.
        let (one, other) = try await (PostgresCluster.start(), PostgresCluster.start())
        defer { [one, other].forEach { $0.remove() } }
        var scene = try await PreflightScene.make(source: one, target: other, backend: backend)
        scene.configuration.tables = [TableRule(pattern: "Reservas", owned: ["bot": ["*"]])]
        func state() async throws -> [String] {
            var state: [String] = []
            for side in [scene.source, scene.target] {
                let folder = try PostgresBinaries(version: side.cluster.version).folder
                let url = side.cluster.conninfo(database: side.database)
                for arguments in [["pg_dump", "-d", url], ["pg_dumpall", "--globals-only", "-d", url]] {
                    let dump = try ChildProcess(folder + "/" + arguments[0], Array(arguments.dropFirst()))
                    defer { try? FileManager.default.removeItem(at: URL(fileURLWithPath: dump.outputPath).deletingLastPathComponent()) }
                    #expect(try await dump.wait(timeoutSeconds: 60) == 0, "\(dump.errors)")
                    // A key of its own for each dump.
                    state.append(dump.output.split(separator: "\n").filter { !$0.contains("restrict ") }.joined(separator: "\n"))
                }
                let rest = try await side.cluster.execute("""
                    SELECT (SELECT count(*) FROM pg_replication_slots) || '/' || (SELECT count(*) FROM pg_replication_origin)
                      || '/' || (SELECT count(*) FROM pg_file_settings) || '/' || (SELECT count(*) FROM pg_database)
                    """)
                state.append(rest.firstValue ?? "")
            }
            return state
        }
        let before = try await state()
        #expect(before[0].contains("CREATE TABLE public.\"Reservas\""))
        _ = await scene.report()
        #expect(try await state() == before)
    }

    @Test func serverWithoutLogicalDecodingIsBlockedWithEveryRemedy() async throws {
        let poor = try await PostgresCluster.start(settings: [
            "wal_level": "replica", "max_wal_senders": "0", "max_replication_slots": "0",
        ])
        defer { poor.remove() }
        var scene = try await PreflightScene.make(source: poor, target: poor)
        let report = await scene.report()
        let walLevel = try #require(report.blockers.first { $0.code == .walLevel })
        #expect(walLevel.database == "bot")
        #expect(walLevel.message.contains("wal_level is replica"))
        #expect(walLevel.fix?.hasPrefix("ALTER SYSTEM SET wal_level = 'logical';") == true)
        let slots = try #require(report.blockers.first { $0.code == .replicationSlots })
        #expect(slots.message.contains("0 of 0 (max_replication_slots)"))
        let senders = try #require(report.blockers.first { $0.code == .walSenders })
        #expect(senders.fix?.hasPrefix("ALTER SYSTEM SET max_wal_senders = '5';") == true)
        let origins = try #require(report.blockers.first { $0.code == .originSlots })
        #expect(origins.database == "sync")

        // In shared mode all of it costs the change feed only.
        scene.configuration.backend = .shared
        let shared = await scene.report()
        #expect(shared.blockers == [])
        #expect(shared.findings.contains { $0.code == .walLevel && $0.severity == .warning })

        try await preparedTransactionBlocksANewSlot(scene)
    }

    /// On the same private cluster: a prepared transaction would hold up every other test's slots.
    private func preparedTransactionBlocksANewSlot(_ scene: PreflightScene) async throws {
        var scene = scene
        scene.configuration.backend = .replica
        try await scene.run(
            on: .source, "BEGIN; INSERT INTO \"Reservas\" VALUES (1, 'a'); PREPARE TRANSACTION 'it''s';")
        let finding = try #require(await scene.finding(.preparedTransaction))
        #expect(finding.severity == .blocker)
        #expect(finding.fix?.contains("ROLLBACK PREPARED 'it''s';") == true)
        try await scene.runAlone(on: .source, "ROLLBACK PREPARED 'it''s'")
        #expect(await scene.finding(.preparedTransaction) == nil)
    }

    @Test func lastFreeSlotIsCounted() async throws {
        let cluster = try await PostgresCluster.start(settings: ["max_replication_slots": "1"])
        defer { cluster.remove() }
        var scene = try await PreflightScene.make(source: cluster)
        #expect(await scene.finding(.replicationSlots) == nil)
        try await scene.run(on: .source, "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
        #expect(await scene.finding(.replicationSlots)?.severity == .blocker)
        scene.ownSlots = ["mine"]
        #expect(await scene.finding(.replicationSlots) == nil)
    }

    @Test func roleWithoutReplicationIsBlocked() async throws {
        var scene = try await PreflightScene.make()
        let cluster = scene.source.cluster
        try await PreflightScene.withRole(on: cluster, "NOREPLICATION") { role in
            scene.sourceUser = role
            let report = await scene.report()
            let replication = try #require(report.blockers.first { $0.code == .replicationPrivilege })
            #expect(replication.fix == "ALTER ROLE \"\(role)\" REPLICATION;")
            let blockers: [String] = report.blockers.map { "\($0.code.rawValue) \($0.object ?? "")" }
            for expected in ["publication_privilege \(role)", "publication_privilege Reservas", "source_privilege Reservas"] {
                #expect(blockers.contains(expected))
            }
        }
    }

    @Test func leastPrivilegesOfTheTargetAreEnough() async throws {
        var scene = try await PreflightScene.make()
        let cluster = scene.target.cluster
        try await PreflightScene.withRole(on: cluster, "") { role in
            scene.targetUser = role
            let blocked = await scene.report().blockers.filter { $0.code == .targetPrivilege }
            #expect(blocked.count == 3, "\(blocked)")
            for finding in blocked {
                // The remedy is SQL as it stands: it runs, and then the finding is gone.
                try await scene.run(on: .target, try #require(finding.fix))
            }
            #expect(await scene.report().blockers == [])
            try await scene.run(on: .target, "DROP OWNED BY \(role)")
        }
    }

    @Test func sameDatabaseTwiceIsBlocked() async throws {
        let scene = try await PreflightScene.make()
        let report = await Preflight(
            configuration: scene.configuration,
            connections: ["bot": scene.options(.source), "sync": scene.options(.source)]
        ).run()
        let finding = try #require(report.blockers.first { $0.code == .sameDatabase })
        #expect(finding.message.contains("bot and sync are the same database"))
    }

    @Test func twoDatabasesOfOneClusterAreFine() async throws {
        let cluster = try await PostgresCluster.shared()
        let scene = try await PreflightScene.make(source: cluster, target: cluster)
        #expect(await scene.report().blockers == [])
    }

    @Test func writableServerCalledAStandbyIsBlocked() async throws {
        var scene = try await PreflightScene.make()
        scene.configuration.databases[1].isPhysicalStandby = true
        let finding = try #require(await scene.finding(.notAStandby))
        #expect(finding.severity == .blocker)
        #expect(finding.message.contains("is no standby"))
    }

    @Test func unreachableServerIsABlockerAndTheOtherIsStillChecked() async throws {
        let scene = try await PreflightScene.make()
        var configuration = scene.configuration
        configuration.databases[0].roles = ["nobody_has_this_role"]
        let report = await Preflight(
            configuration: configuration,
            connections: [
                "bot": scene.options(.source),
                "sync": ConnectionOptions("postgresql://someone:hunter2@127.0.0.1:1/none"),
            ]
        ).run()
        let finding = try #require(report.blockers.first { $0.code == .connection })
        #expect(finding.database == "sync")
        #expect(!finding.description.contains("hunter2"))
        #expect(report.blockers.contains { $0.code == .roleMissing && $0.object == "nobody_has_this_role" })
    }

    @Test func superuserRoleIsAWarning() async throws {
        var scene = try await PreflightScene.make(backend: .shared)
        scene.configuration.databases[0].roles = ["postgres"]
        #expect(await scene.finding(.roleTooStrong)?.severity == .warning)
    }

    @Test func longWritingTransactionIsNamed() async throws {
        var scene = try await PreflightScene.make()
        scene.longTransactionSeconds = 0
        var options = scene.options(.source)
        options.applicationName = "night job"
        let writer = try await PostgresConnection.connect(options)
        _ = try await writer.execute("BEGIN; INSERT INTO public.\"Reservas\" VALUES (7, 'x')")
        let findings = await scene.report().findings
        await writer.close()
        let finding = try #require(
            findings.first { $0.code == .longTransaction && $0.message.contains("night job") })
        #expect(finding.severity == .warning)
        #expect(finding.fix?.contains("pg_terminate_backend(\(finding.object ?? ""))") == true)
    }

    @Test func unlimitedRetentionAndLargeObjectsAreWarnings() async throws {
        let scene = try await PreflightScene.make()
        try await scene.run(on: .source, "SELECT lo_create(0)")
        let report = await scene.report()
        let retention = try #require(report.findings.first { $0.code == .slotRetention })
        #expect(retention.severity == .warning)
        #expect(retention.fix?.hasPrefix("ALTER SYSTEM SET max_slot_wal_keep_size = '4768MB';") == true)
        #expect(report.findings.first { $0.code == .largeObjects }?.severity == .warning)
    }

    @Test func otherEncodingIsAWarning() async throws {
        let scene = try await PreflightScene.make()
        let name = scene.target.database + "_latin"
        try await scene.target.cluster.execute(
            "CREATE DATABASE \"\(name)\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        let latin = scene.target.cluster.conninfo(database: name)
        let report = await Preflight(
            configuration: scene.configuration,
            connections: ["bot": scene.options(.source), "sync": ConnectionOptions(latin)]
        ).run()
        #expect(report.findings.first { $0.code == .encoding }?.severity == .warning)
    }

    @Test func sequencesAreNoted() async throws {
        let scene = try await PreflightScene.make(script: "CREATE TABLE t (id serial PRIMARY KEY)")
        #expect(await scene.finding(.sequences)?.severity == .note)
    }

    @Test func aFolderThatOthersMayWriteToIsNoPlaceToWait() async throws {
        var scene = try await PreflightScene.make()
        scene.configuration.replication.streaming = .on
        scene.configuration.replication.spillDirectory = "/tmp"
        let finding = try #require(await scene.finding(.spillFolder))
        #expect(finding.severity == .blocker && finding.object == "/tmp" && finding.message.contains("writable for others"))
        scene.configuration.replication.streaming = .off
        #expect(await scene.finding(.spillFolder) == nil)
    }

    /// What the role may not read is said, and never taken for good.
    @Test func whatCanNotBeReadIsABlocker() async throws {
        var scene = try await PreflightScene.make()
        try await scene.run(on: .target, "CREATE SCHEMA lindero; CREATE TABLE lindero.direction (name text, prepared_at text, created_tables text)")
        try await PreflightScene.withRole(on: scene.target.cluster, "") { role in
            try await scene.run(on: .target, "GRANT USAGE ON SCHEMA lindero TO \(role)")
            scene.targetUser = role
            let finding = try #require(await scene.finding(.checkFailed))
            #expect(finding.severity == .blocker && finding.database == "sync" && finding.fix != nil)
            try await scene.run(on: .target, "DROP OWNED BY \(role)")
        }
    }

    @Test func ownershipProblemIsABlockerWithItsPlace() async throws {
        var scene = try await PreflightScene.make()
        scene.configuration.tables = [
            TableRule(
                pattern: "Reservas", owned: ["bot": ["statsu"]],
                marks: ["": SourceMark(line: 3, column: 1), "statsu": SourceMark(line: 4, column: 8)])
        ]
        let blockers = await scene.report().blockers.filter { $0.code == .ownership }
        #expect(
            blockers.contains {
                $0.mark == SourceMark(line: 4, column: 8) && $0.message.contains("\"status\"")
            })
        #expect(blockers.contains { $0.message.contains("nobody owns") })
    }
}
