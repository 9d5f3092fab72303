import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@Suite struct AdoptionPreflightTests {
    private func scene(script: String = PreflightScene.sample) async throws -> PreflightScene {
        var scene = try await PreflightScene.make(script: script)
        scene.configuration.replication.snapshot = .never
        scene.configuration.replication.slot = "adopt_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        scene.configuration.replication.publication = "Mine"
        return scene
    }

    private func createSlot(_ scene: PreflightScene, plugin: String = "pgoutput") async throws {
        let slot = scene.configuration.replication.slot ?? ""
        try await scene.run(on: .source, "SELECT pg_create_logical_replication_slot('\(slot)', '\(plugin)')")
    }

    private func dropSlot(_ scene: PreflightScene) async throws {
        let slot = scene.configuration.replication.slot ?? ""
        try await scene.run(on: .source, "SELECT pg_drop_replication_slot('\(slot)')")
    }

    @Test func slotAndPublicationThatFitAreAdopted() async throws {
        let scene = try await scene()
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR ALL TABLES")
        try await createSlot(scene)
        #expect(await scene.report().blockers == [])
        try await dropSlot(scene)
    }

    @Test func missingSlotAndPublicationAreBlocked() async throws {
        let scene = try await scene()
        let blockers = await scene.report().blockers
        #expect(
            blockers.contains { $0.code == .slotMissing && $0.object == scene.configuration.replication.slot }
        )
        let publication = try #require(blockers.first { $0.code == .publicationMissing })
        try await scene.run(on: .source, try #require(publication.fix))
        #expect(await scene.finding(.publicationMissing) == nil)
        #expect(await scene.finding(.publicationTable) == nil)
    }

    // The builds of 16 and 18 that the tests use come without test_decoding.
    @Test(.enabled(if: PostgresBinaries.defaultVersion == 15))
    func slotOfAnotherPluginIsBlocked() async throws {
        let scene = try await scene()
        try await createSlot(scene, plugin: "test_decoding")
        let finding = try #require(await scene.finding(.slotPlugin))
        #expect(finding.message.contains("test_decoding"))
        try await dropSlot(scene)
    }

    @Test func slotThatSendsPreparedTransactionsIsBlocked() async throws {
        var scene = try await scene()
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR ALL TABLES")
        let slot = scene.configuration.replication.slot ?? ""
        try await scene.run(on: .source, "SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput', false, true)")
        let finding = try #require(await scene.finding(.slotTwoPhase))
        #expect(finding.severity == .blocker && finding.message.contains(slot))
        scene.configuration.replication.twoPhase = true
        #expect(await scene.finding(.slotTwoPhase) == nil)
        try await dropSlot(scene)
    }

    @Test func slotOfAnotherDatabaseIsBlocked() async throws {
        let scene = try await scene()
        var other = try await self.scene()
        other.configuration.replication.slot = scene.configuration.replication.slot
        try await createSlot(other)
        let finding = try #require(await scene.finding(.slotDatabase))
        #expect(finding.message.contains(other.source.database))
        try await dropSlot(other)
    }

    @Test func slotReadBySomebodyElseIsBlockedAndByLinderoIsNoted() async throws {
        let scene = try await scene()
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR ALL TABLES")
        try await createSlot(scene)
        for (name, severity) in [("debezium", PreflightFinding.Severity.blocker), ("lindero", .note)] {
            var options = scene.options(.source)
            options.applicationName = name
            let stream = try await ReplicationConnection.connect(options.withoutSenderTimeout)
            try await stream.startReplication(
                slot: scene.configuration.replication.slot ?? "", at: 0,
                options: [("proto_version", "1"), ("publication_names", "\"Mine\"")])
            let finding = await scene.finding(.slotActive)
            #expect(finding?.severity == severity, "\(name)")
            await stream.close()
            try await waitUntil("the slot is free again") { await scene.finding(.slotActive) == nil }
        }
        try await dropSlot(scene)
    }

    @Test func invalidatedSlotIsBlocked() async throws {
        let cluster = try await PostgresCluster.start(settings: [
            "max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB",
        ])
        defer { cluster.remove() }
        var scene = try await PreflightScene.make(source: cluster)
        scene.configuration.replication.snapshot = .never
        scene.configuration.replication.slot = "stale"
        scene.configuration.replication.publication = "Mine"
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR ALL TABLES")
        try await createSlot(scene)
        try await waitUntil("the slot is lost", timeoutSeconds: 60) {
            for _ in 0..<4 { try await scene.run(on: .source, "SELECT pg_switch_wal(), txid_current()") }
            try await scene.run(on: .source, "CHECKPOINT")
            return await scene.finding(.slotInvalidated) != nil
        }
        let finding = try #require(await scene.finding(.slotInvalidated))
        #expect(finding.fix?.contains("pg_drop_replication_slot('stale')") == true)
    }

    @Test func publicationThatLacksATableOrColumnIsBlockedAndTheFixMendsIt() async throws {
        var scene = try await scene(
            script: PreflightScene.sample + "CREATE TABLE other (id int PRIMARY KEY, a int, b int)")
        scene.configuration.replication.slot = nil
        let columns = scene.source.cluster.version >= 15 ? "(id, a)" : ""
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR TABLE other \(columns)")
        let table = try #require(await scene.finding(.publicationTable))
        #expect(table.object == "Reservas")
        try await scene.run(on: .source, try #require(table.fix))
        if !columns.isEmpty {
            let column = try #require(await scene.finding(.publicationColumns))
            #expect(column.message.contains("\"b\" of other"))
            try await scene.run(on: .source, try #require(column.fix))
        }
        #expect(await scene.report().blockers == [])
    }

    @Test func publicationUnderPartitionNamesIsBlockedAndTheFixMendsIt() async throws {
        var scene = try await scene(
            script: """
                CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a);
                CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
                """)
        scene.configuration.replication.slot = nil
        try await scene.run(on: .source, "CREATE PUBLICATION \"Mine\" FOR TABLE parts")
        let finding = try #require(await scene.finding(.publicationRoot))
        try await scene.run(on: .source, try #require(finding.fix))
        #expect(await scene.report().blockers == [])
    }

    @Test func publicationThatLeavesOutOperationsOrRowsIsAWarning() async throws {
        var scene = try await scene()
        scene.configuration.replication.slot = nil
        let filter = scene.source.cluster.version >= 15 ? "WHERE (id > 10)" : ""
        try await scene.run(
            on: .source,
            "CREATE PUBLICATION \"Mine\" FOR TABLE \"Reservas\" \(filter) WITH (publish = 'insert, update')")
        let report = await scene.report()
        let operations = try #require(report.findings.first { $0.code == .publicationOperations })
        #expect(operations.severity == .warning)
        #expect(operations.message.contains("leaves out delete, truncate"))
        if !filter.isEmpty { #expect(report.findings.contains { $0.code == .publicationFilter }) }
        #expect(report.blockers == [])
    }
}
