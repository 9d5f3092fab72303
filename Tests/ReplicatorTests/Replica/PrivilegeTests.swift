import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The worker as plain roles: on the target PostgreSQL itself refuses a column that was not granted.
///
/// One at a time: the first grant of a parameter makes a row of the whole server, and two at once get in each other's way.
@Suite(.serialized) struct PrivilegeTests {
    static let schema = #"CREATE TABLE "Reservas" (id int PRIMARY KEY, phone text, "crmNotes" text)"#

    /// The same direction, as roles with just the rights that the README names.
    private func plain(_ pair: ReplicaPair, columns: String) async throws -> DirectionSettings {
        let role = "plain_" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        _ = try await pair.source.execute("CREATE ROLE \(role) LOGIN REPLICATION")
        _ = try await PostgresConnection.with(pair.settings.target) { try await Migrator(connection: $0).migrate() }
        try await pair.target.executeOnSharedServer(
            """
            CREATE ROLE \(role) LOGIN;
            GRANT SET ON PARAMETER session_replication_role TO \(role);
            GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text), pg_replication_origin_oid(text),
              pg_replication_origin_session_setup(text), pg_replication_origin_session_progress(boolean),
              pg_replication_origin_xact_setup(pg_lsn, timestamptz) TO \(role);
            GRANT USAGE ON SCHEMA lindero TO \(role);
            GRANT SELECT, INSERT, UPDATE ON lindero.direction, lindero.heartbeat TO \(role);
            GRANT SELECT ON lindero.migration, lindero.table_copy TO \(role);
            GRANT SELECT, DELETE ON "Reservas" TO \(role); GRANT INSERT (\(columns)), UPDATE (\(columns)) ON "Reservas" TO \(role);
            """)
        var settings = pair.settings
        settings.source = ConnectionOptions(pair.sourceURL.replacing("postgres@", with: "\(role)@", maxReplacements: 1))
        settings.target = ConnectionOptions(pair.targetURL.replacing("postgres@", with: "\(role)@", maxReplacements: 1))
        return settings
    }

    private func start(_ settings: DirectionSettings, _ state: DirectionState) -> Task<Void, any Error> {
        Task {
            try await DirectionSupervisor(
                settings: settings, state: state, logger: FreshPair.quiet, worker: "test", prepare: { _ in }
            ).run()
        }
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15))
    func plainRolesWithColumnPrivilegesAreEnough() async throws {
        let pair = try await ReplicaPair(Self.schema)
        let settings = try await plain(pair, columns: #"id, phone, "crmNotes""#)
        let state = DirectionState()
        let running = start(settings, state)
        _ = try await pair.source.execute(
            #"INSERT INTO "Reservas" SELECT i, 'p', 'n' FROM generate_series(1, 100) i; UPDATE "Reservas" SET phone = 'q' WHERE id < 50; DELETE FROM "Reservas" WHERE id = 7"#)
        try await pair.catchUp(state)
        try await pair.expectSame(#"SELECT * FROM "Reservas" ORDER BY id"#, atLeast: 99)
        state.drain()
        try await running.value
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15))
    func columnThatWasNotGrantedIsRefusedByPostgreSQLItself() async throws {
        let pair = try await ReplicaPair(Self.schema)
        let settings = try await plain(pair, columns: "id, phone")
        let failure = await #expect(throws: ReplicationFailure.self) {
            let state = DirectionState()
            let running = start(settings, state)
            _ = try await pair.source.execute(#"INSERT INTO "Reservas" VALUES (1, 'p', 'not yours')"#)
            try await running.value
        }
        #expect(failure?.code == .changeRefused)
        #expect(failure?.message.contains("42501") == true)
        let rows = try await pair.rows(#"SELECT count(*) FROM "Reservas""#, on: pair.target)
        #expect(rows == [["0"]])
    }

    @Test func privateColumnIsNeverSentOrWritten() async throws {
        let table = QualifiedName(schema: "public", name: "Reservas")
        let policy = OwnershipPolicy(tables: [
            table: TableOwnership(
                table: table, match: ["id"], insertOwners: ["bot"], deleteOwners: ["bot"], privateColumns: ["crmNotes"],
                columns: ["id": .owned(by: "bot"), "phone": .owned(by: "bot"), "crmNotes": .owned(by: "bot")])
        ])
        let pair = try await ReplicaPair(
            Self.schema + #"; ALTER TABLE "Reservas" REPLICA IDENTITY FULL"#, policy: policy)
        try await pair.streaming { state in
            try await pair.apply(#"INSERT INTO "Reservas" VALUES (1, 'p', 'secret'), (2, 'p', 'secret')"#, state)
            _ = try await pair.target.execute(#"UPDATE "Reservas" SET "crmNotes" = 'the target''s own' WHERE id = 1"#)
            try await pair.apply(
                #"UPDATE "Reservas" SET "crmNotes" = 'more secret'; UPDATE "Reservas" SET phone = 'q', "crmNotes" = 'x' WHERE id = 1"#, state)
            let rows = try await pair.rows(#"SELECT * FROM "Reservas" ORDER BY id"#, on: pair.target)
            #expect(rows == [["1", "q", "the target's own"], ["2", "p", nil]])
        }
    }
}
