import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What a strict fence asks of Lindero's role, and what the servers' versions and limits do.
@Suite struct FencePreflightTests {
    private func checks(movesServices: Bool = true, _ change: (inout FenceChecks) -> Void) -> [PreflightFinding] {
        var checks = FenceChecks(database: "bot", user: "op", movesServices: movesServices)
        checks.tables = [FenceChecks.Table(name: QualifiedName(schema: "public", name: "Leads"), owner: "team", actsAsOwner: true)]
        checks.roles = [FenceChecks.Role(name: "sync_app", isSuperuser: false, mayBecome: true, mayEnd: true, isService: true)]
        change(&checks)
        return checks.findings()
    }

    @Test func anOwnerWhoActsAsTheRolesAndSeesThemLacksNothing() {
        #expect(checks { _ in } == [])
    }

    @Test func whatALesserRoleLacksIsNamedWithItsFix() {
        let table = checks { $0.tables[0].actsAsOwner = false }
        #expect(table.map(\.severity) == [.blocker] && table.map(\.code) == [.fencePrivilege])
        #expect(table[0].fix == "GRANT \"team\" TO \"op\"; or ALTER TABLE \"public\".\"Leads\" OWNER TO \"op\";")
        #expect(checks(movesServices: false) { $0.tables[0].actsAsOwner = false }.map(\.severity) == [.warning])
        #expect(checks { $0.roles[0].mayBecome = false }.map(\.fix) == ["GRANT \"sync_app\" TO \"op\";"])
        #expect(checks { $0.roles[0].mayEnd = false }.map(\.fix) == ["GRANT pg_signal_backend TO \"op\";"])
        #expect(checks { $0.seesSessions = false }.map(\.fix) == ["GRANT pg_read_all_stats TO \"op\";"])
        // Nobody is asked to make Lindero a superuser.
        #expect(checks { ($0.roles[0].mayBecome, $0.roles[0].isSuperuser) = (false, true) } == [])
    }

    private func server(_ change: (inout ServerFacts) -> Void) -> ServerChecks {
        var facts = ServerFacts()
        (facts.version, facts.walLevel, facts.slotLimit, facts.senderLimit) = (150_000, "logical", 10, 10)
        (facts.mayReplicate, facts.slotRetentionMegabytes) = (true, 1_000)
        change(&facts)
        let configuration = LinderoConfiguration(
            backend: .replica, databases: [DatabaseSettings(name: "bot", url: .conninfo(""))], origin: "bot")
        return ServerChecks(database: "bot", facts: facts, configuration: configuration, ownSlots: [], longTransactionSeconds: 60)
    }

    @Test func aServerThatIsTooOldAndSlotsThatExpireAreTold() {
        #expect(server { _ in }.version() == [])
        let old = server { $0.version = 130_012 }.version()
        #expect(old.map(\.severity) == [.blocker] && old.map(\.code) == [.serverVersion] && old[0].fix != nil)
        #expect(server { _ in }.source() == [])
        let expiring = server { $0.idleSlotTimeoutSeconds = 600 }.source()
        #expect(expiring.map(\.code) == [.idleSlotTimeout] && expiring[0].fix?.contains("idle_replication_slot_timeout = '0'") == true)
    }
}
