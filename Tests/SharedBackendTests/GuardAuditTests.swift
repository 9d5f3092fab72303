import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@testable import SharedBackend

@Suite struct GuardAuditTests {
    private func audited() async throws -> HotelDatabase {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            GRANT ALL ON public."Reservas", public."Leads" TO "\(hotel.botRole)", "\(hotel.syncRole)";
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "\(hotel.botRole)", "\(hotel.syncRole)";
            INSERT INTO public."Reservas" (id, "bookingId", "guestName") VALUES ('1', 'b-1', 'A'), ('2', 'b-2', 'B');
            """)
        try await hotel.apply(.audit)
        return hotel
    }

    @Test func violationsPassAndAreRecordedWithRoleKeyAndColumns() async throws {
        let hotel = try await audited()
        let (bot, sync) = (hotel.botRole, hotel.syncRole)
        #expect(try await hotel.attempt(
            #"UPDATE public."Reservas" SET "apiData" = '{"a":1}', "beds24Status" = 'x', "crmNotes" = 'n' WHERE id = '1'"#, as: bot) == nil)
        #expect(try await hotel.attempt(#"UPDATE public."Reservas" SET "crmNotes" = 'x' WHERE id = '2'"#, as: sync) == nil)
        #expect(try await hotel.attempt(#"DELETE FROM public."Reservas" WHERE id = '2'"#, as: bot) == nil)
        #expect(try await hotel.attempt(#"INSERT INTO public."Reservas" (id, "bookingId", "guestName") VALUES ('3', 'b-3', 'C')"#, as: bot) == nil)
        #expect(try await hotel.attempt(#"TRUNCATE public."Reservas""#, as: bot) == nil)
        let report = try await AuditReport.read(connection: hotel.admin)
        #expect(report.violationCount == 5)
        let newest = Array(report.newest.reversed())
        #expect(newest.map(\.operation) == ["UPDATE", "UPDATE", "DELETE", "INSERT", "TRUNCATE"])
        #expect(newest.map(\.columns) == [["beds24Status", "apiData"], ["crmNotes"], [], [], []])
        #expect(newest.map(\.side) == ["bot", "sync", "bot", "bot", "bot"])
        #expect(newest[0].role == bot && newest[0].sessionRole == bot && newest[0].table.name == "Reservas")
        #expect(newest.map(\.key) == [
            #"{"bookingId": "b-1"}"#, #"{"bookingId": "b-2"}"#, #"{"bookingId": "b-2"}"#, #"{"bookingId": "b-3"}"#, nil,
        ])
        #expect(report.lines.contains { $0.column == "apiData" && $0.role == bot && $0.count == 1 && $0.firstAt == $0.lastAt })
    }

    @Test func ownWritesUnchangedValuesAndReplicatedWritesLeaveNoTrace() async throws {
        let hotel = try await audited()
        for (sql, role) in [
            (#"UPDATE public."Reservas" SET "crmNotes" = 'x', phone = '1'"#, hotel.botRole),
            (#"UPDATE public."Reservas" SET "apiData" = NULL, "beds24Status" = NULL"#, hotel.botRole),
            (#"UPDATE public."Reservas" SET "apiData" = '{}'"#, hotel.syncRole),
            (#"INSERT INTO public."Reservas" (id, "bookingId", "guestName") VALUES ('3', 'b-3', 'C')"#, hotel.syncRole),
            (#"INSERT INTO public."Leads" (phone, "botNote") VALUES ('1', 'x')"#, hotel.botRole),
            (#"INSERT INTO public."Leads" (phone) VALUES ('2')"#, hotel.syncRole),
            (#"UPDATE public."Reservas" SET "crmNotes" = 'admin', "apiData" = '1'"#, "postgres"),
        ] {
            #expect(try await hotel.attempt(sql, as: role) == nil)
        }
        try await hotel.admin.executeOnSharedServer("GRANT SET ON PARAMETER session_replication_role TO \"\(hotel.botRole)\"")
        _ = try await hotel.admin.execute(
            """
            SET SESSION AUTHORIZATION "\(hotel.botRole)"; SET session_replication_role = replica;
            UPDATE public."Reservas" SET "beds24Status" = 'replicated';
            RESET session_replication_role; RESET SESSION AUTHORIZATION;
            """)
        #expect(try await AuditReport.read(connection: hotel.admin).newest == [])
    }

    @Test func filledForeignColumnOfAnOwnInsertIsRecorded() async throws {
        let hotel = try await audited()
        #expect(try await hotel.attempt(
            #"INSERT INTO public."Leads" (phone, "botNote") VALUES ('1', 'x')"#, as: hotel.syncRole) == nil)
        #expect(try await AuditReport.read(connection: hotel.admin).newest.map(\.columns) == [["botNote"]])
    }

    @Test func membersAndAssumedRolesAreToldApart() async throws {
        let hotel = try await audited()
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "login_\(hotel.botRole)" LOGIN IN ROLE "\(hotel.botRole)";
            """)
        #expect(try await hotel.plan(.audit).isEmpty)
        let update = #"UPDATE public."Reservas" SET "beds24Status" = 'x' || random() WHERE id = '1';"#
        #expect(try await hotel.attempt(
            "\(update) SET ROLE \"\(hotel.botRole)\"; \(update)", as: "login_\(hotel.botRole)") == nil)
        let newest = try await AuditReport.read(connection: hotel.admin).newest
        #expect(newest.map(\.role) == [hotel.botRole, "login_\(hotel.botRole)"])
        #expect(Set(newest.map(\.sessionRole)) == ["login_\(hotel.botRole)"])
    }

    @Test func switchingIsIdempotentAndMigrateDownWaitsForRemove() async throws {
        let hotel = try await audited()
        let before = try await hotel.accessLists()
        #expect(try await hotel.apply(.audit).isEmpty)
        try await hotel.apply(.enforce)
        #expect(try await hotel.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lindero%'") == "0")
        try await hotel.apply(.audit)
        #expect(try await GuardCommand.state(connection: hotel.admin)?.mode == .audit)
        await #expect(throws: (any Error).self) { try await Migrator(connection: hotel.admin).migrateDown() }
        _ = try await hotel.admin.execute(#"ALTER TABLE public."Leads" RENAME TO "Prospects""#)
        try await GuardCommand.remove(connection: hotel.admin)
        #expect(try await hotel.leftovers() == "0")
        _ = try await hotel.admin.execute(#"ALTER TABLE public."Prospects" RENAME TO "Leads""#)
        #expect(try await hotel.accessLists() == before)
        try await Migrator(connection: hotel.admin).migrateDown()
    }

    @Test func anAuditedTableCanBeDropped() async throws {
        let hotel = try await audited()
        _ = try await hotel.admin.execute(#"DROP TABLE public."Leads""#)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.contains { $0.contains("no longer exists") })
        #expect(try await hotel.leftovers() == "0")
    }

    @Test func columnsWithoutEqualityAreCompared() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            CREATE TABLE public.odd (id int PRIMARY KEY, a json, b point, c \(PostgresBinaries.defaultVersion == 15 ? "xml" : "json"), d float8 DEFAULT 1.5);
            INSERT INTO public.odd VALUES (1, '{}', '(1,1)', NULL); GRANT ALL ON public.odd TO "\(hotel.botRole)";
            """)
        var configuration = hotel.configuration
        configuration.tables = [
            TableRule(
                pattern: "odd", insertOwners: ["bot", "sync"], deleteOwners: ["sync"], owned: ["sync": ["a", "b", "c", "d"]])
        ]
        try await hotel.apply(.audit, configuration)
        #expect(try await hotel.attempt("UPDATE public.odd SET a = a, b = '(1,1)', c = c", as: hotel.botRole) == nil)
        #expect(try await hotel.attempt("UPDATE public.odd SET a = '{ }', b = '(1,2)'", as: hotel.botRole) == nil)
        #expect(try await hotel.attempt("INSERT INTO public.odd (id) VALUES (2)", as: hotel.botRole) == nil)
        #expect(try await hotel.attempt("INSERT INTO public.odd (id, d) VALUES (3, 2)", as: hotel.botRole) == nil)
        let newest = try await AuditReport.read(connection: hotel.admin).newest
        #expect(newest.map(\.columns) == [["d"], ["a", "b"]])
    }
}
