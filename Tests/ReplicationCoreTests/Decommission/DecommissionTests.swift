import ReplicationCore
import Testing

@Suite struct DecommissionTests {
    static let table = QualifiedName(schema: "public", name: "Reservas")

    static let configuration = LinderoConfiguration(
        databases: [
            DatabaseSettings(name: "bot", url: .environment("B"), roles: ["bot_app"]),
            DatabaseSettings(name: "sync", url: .environment("S"), roles: ["sync_app"]),
        ],
        origin: "bot",
        tables: [
            TableRule(
                pattern: "Reservas", match: ["bookingId"], privateColumns: ["crmNotes", "apiData"],
                owned: ["bot": ["crmNotes"], "sync": ["bookingId", "apiData"]])
        ])

    static let policy = OwnershipPolicy(tables: [
        table: TableOwnership(
            table: table, match: ["bookingId"], insertOwners: ["sync"], deleteOwners: ["sync"], privateColumns: ["crmNotes", "apiData"],
            columns: ["bookingId": .owned(by: "sync"), "crmNotes": .owned(by: "bot"), "apiData": .owned(by: "sync")])
    ])

    static func remains(_ name: String, _ change: (inout DatabaseRemains) -> Void = { _ in }) -> DatabaseRemains {
        var remains = DatabaseRemains(database: name)
        remains.columns = [table: ["bookingId", "crmNotes", "apiData"]]
        change(&remains)
        return remains
    }

    static func decommission(
        _ phase: Phase, workers: [WorkerMode] = [], move: PhaseMove? = nil, policy: OwnershipPolicy? = policy,
        _ databases: [DatabaseRemains]
    ) -> Decommission {
        var state = PhaseState(phase: phase)
        state.move = move
        var directions = [Decommission.Direction(source: "bot", target: nil, slot: "lindero_h_feed", publication: "lindero_h_feed")]
        if phase != .shared {
            directions = [Decommission.Direction(source: "bot", target: "sync", slot: "lindero_h_sync", publication: "lindero_h_sync")]
        }
        if phase == .split {
            directions.append(Decommission.Direction(source: "sync", target: "bot", slot: "lindero_h_bot", publication: "lindero_h_bot"))
        }
        return Decommission(
            state: state, workers: workers, configuration: configuration, policy: policy, directions: directions,
            knownNames: ["bot": ["lindero_h_feed", "lindero_h_sync"], "sync": ["lindero_h_feed", "lindero_h_bot"]], databases: databases)
    }

    static let botWithBothSlots = remains("bot") {
        $0.objects.slots = [.init(name: "lindero_h_feed", retainedBytes: 7_000_000), .init(name: "lindero_h_sync", isActive: true)]
        $0.objects.publications = ["lindero_h_feed", "lindero_h_sync"]
    }

    private func problems(_ decommission: Decommission, _ names: String...) -> [Decommission.Problem] {
        do throws(Decommission.Problems) {
            _ = try decommission.choose(names)
            return []
        } catch {
            return error.problems
        }
    }

    @Test func thePhaseSaysWhichSlotIsNeededAndByWhichDirection() {
        let replica = Self.decommission(.replica, [Self.botWithBothSlots])
        let needs = Dictionary(uniqueKeysWithValues: replica.remnants.filter { $0.kind == .slot || $0.kind == .publication }.map { ($0.name, $0.need) })
        #expect(needs["bot:slot/lindero_h_feed"] == .some(nil))
        #expect(needs["bot:slot/lindero_h_sync"] == "replica: bot->sync reads it")
        #expect(needs["bot:publication/lindero_h_sync"] == "replica: bot->sync reads it")
        let shared = Self.decommission(.shared, [Self.botWithBothSlots])
        #expect(shared.remnants.first { $0.name == "bot:slot/lindero_h_feed" }?.need == "shared: bot->feed reads it")
        #expect(shared.remnants.first { $0.name == "bot:slot/lindero_h_sync" }?.need == nil)
        #expect(shared.remnants.first { $0.kind == .slot }?.retainedWALBytes == 7_000_000)
        #expect(shared.remnants.first { $0.kind == .slot }?.sql == ["SELECT pg_catalog.pg_drop_replication_slot('lindero_h_feed');"])
    }

    @Test func whatIsInUseOrNeededBesideAWorkerIsRefusedAndNothingIsChosen() {
        let beside = Self.decommission(.replica, workers: [.replica], [Self.botWithBothSlots])
        guard case .refused(_, let active)? = problems(beside, "bot:slot/lindero_h_sync").first else { return #expect(Bool(false)) }
        #expect(active.contains("in use"))
        guard case .refused(_, let needed)? = problems(beside, "bot:publication/lindero_h_sync").first else { return #expect(Bool(false)) }
        #expect(needed.contains("a worker runs: stop `lindero run` first"))
        #expect(problems(beside, "bot:slot/lindero_h_feed").isEmpty)
        // Not needed by anybody who runs.
        #expect(problems(Self.decommission(.replica, [Self.botWithBothSlots]), "bot:publication/lindero_h_sync").isEmpty)
        let moving = Self.decommission(
            .replica, move: PhaseMove(from: .replica, to: .split, startMode: .replica), [Self.botWithBothSlots])
        #expect(problems(moving, "bot:slot/lindero_h_feed").count == 1)
    }

    @Test func misspeltNamesAreAnsweredAndRemovedOnesAreGone() throws {
        let decommission = Self.decommission(.shared, [Self.botWithBothSlots, Self.remains("sync")])
        #expect(problems(decommission, "bot:slot/lindero_h_fed") == [.unknown(name: "bot:slot/lindero_h_fed", nearest: "bot:slot/lindero_h_feed")])
        #expect(problems(decommission, "elsewhere:nothing/x") == [.unknown(name: "elsewhere:nothing/x", nearest: nil)])
        let gone = ["sync:slot/lindero_h_bot", "sync:column/public.Reservas.crmNotes", "bot:origin/sync", "sync:schema/lindero", "bot:role/sync_app"]
        #expect(try decommission.choose(gone).gone == gone)
        // Even where the file no longer fits the tables, because the column is gone.
        #expect(try Self.decommission(.split, policy: nil, [Self.remains("sync")]).choose([gone[1]]).gone == [gone[1]])
    }

    @Test func columnsThatNoLongerGetUpdatesAreListedWhereTheyStandStill() {
        func columns(_ phase: Phase) -> [String] {
            Self.decommission(phase, [Self.remains("bot"), Self.remains("sync")]).remnants.filter { $0.kind == .column }.map(\.name)
        }
        #expect(columns(.shared) == [])
        #expect(columns(.replica) == ["sync:column/public.Reservas.crmNotes"])
        #expect(columns(.split) == ["bot:column/public.Reservas.apiData", "sync:column/public.Reservas.crmNotes"])
        let column = Self.decommission(.split, [Self.remains("sync")]).remnants.first
        #expect(column?.sql == [#"ALTER TABLE "public"."Reservas" DROP COLUMN "crmNotes";"#])
    }

    @Test func rolesOfTheOtherServiceAreRevokedAfterTheSplitAndTheGuardGoesFirst() throws {
        var bot = Self.remains("bot") {
            $0.writers = [
                .init(role: "owner_app", granted: [], otherwise: [Self.table]), .init(role: "sync_app", granted: [Self.table]),
            ]
        }
        #expect(Self.decommission(.replica, [bot]).remnants.allSatisfy { $0.kind != .role })
        let split = Self.decommission(.split, [bot])
        let role = try #require(split.remnants.first { $0.name == "bot:role/sync_app" })
        #expect(role.sql == [#"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "public"."Reservas" FROM "sync_app";"#])
        #expect(problems(split, "bot:role/sync_app").isEmpty)
        #expect(problems(split, "bot:role/owner_app").count == 1)
        bot.guarded = .init(mode: "enforce", tableCount: 1, sql: ["GRANT …"])
        let guarded = Self.decommission(.split, [bot])
        #expect(problems(guarded, "bot:role/sync_app").count == 1)
        #expect(try guarded.choose(["bot:role/sync_app", "bot:guard/enforce"]).remnants.map(\.kind) == [.guarded, .role])
    }

    @Test func theSchemaGoesOnceNothingInItIsNeeded() throws {
        let sync = Self.remains("sync") {
            $0.schema = .init(version: 14, sizeBytes: 400_000, sql: ["DROP SCHEMA lindero;"])
            $0.guarded = .init(mode: "audit", tableCount: 1, sql: [])
            $0.objects.origins = [.init(name: "lindero_5_bot->sync", direction: "bot->sync")]
            $0.identities = [.init(table: Self.table, sql: ["ALTER TABLE …"])]
        }
        let shared = Self.decommission(.shared, workers: [.shared], [sync])
        guard case .refused(_, let because)? = problems(shared, "sync:schema/lindero").first else { return #expect(Bool(false)) }
        #expect(because == "remove sync:guard/audit and sync:identity/public.Reservas first")
        let all = try shared.choose(["sync:schema/lindero", "sync:guard/audit", "sync:identity/public.Reservas", "sync:origin/bot"])
        #expect(all.remnants.map(\.kind) == [.guarded, .origin, .identity, .schema])
        #expect(all.remnants[1].sql == ["SELECT pg_catalog.pg_replication_origin_drop('lindero_5_bot->sync');"])
        #expect(problems(Self.decommission(.replica, workers: [.replica], [sync]), "sync:schema/lindero", "sync:guard/audit", "sync:identity/public.Reservas").count == 1)
    }
}
