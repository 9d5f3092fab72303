import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// A physical standby where it can't be what the configuration calls it.
@Suite struct StandbyPreflightTests {
    @Test func aStandbyIsNoSourceAndNoTarget() async throws {
        let primary = try await PostgresCluster.start()
        defer { primary.remove() }
        try await primary.execute(PreflightScene.sample)
        let standby = try await PostgresCluster.startStandby(of: primary)
        defer { standby.remove() }
        let rule = [TableRule(pattern: "Reservas", owned: ["bot": ["*"]])]

        var target = try await PreflightScene.make()
        target.configuration.tables = rule
        let report = await Preflight(
            configuration: target.configuration, connections: ["bot": target.options(.source), "sync": ConnectionOptions(standby.conninfo())]
        ).run()
        let there = try #require(report.blockers.first { $0.code == .standbyTarget }, "\(report.findings)")
        #expect(there.database == "sync" && there.fix?.contains("physical_standby: true") == true)

        let source = await Preflight(
            configuration: target.configuration, connections: ["bot": ConnectionOptions(standby.conninfo()), "sync": target.options(.target)]
        ).run()
        let here = try #require(source.blockers.first { $0.code == .standbySource }, "\(source.findings)")
        #expect(here.database == "bot" && here.fix?.contains("primary") == true)
    }
}
