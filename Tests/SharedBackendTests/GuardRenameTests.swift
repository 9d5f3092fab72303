import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import SharedBackend

/// The record follows the table and the column themselves, not whatever has their names today.
@Suite struct GuardRenameTests {
    private func guarded(_ grants: String, mode: GuardMode = .enforce) async throws -> HotelDatabase {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(grants.replacing("BOT", with: "\"\(hotel.botRole)\""))
        return hotel
    }

    @Test(arguments: GuardMode.allCases)
    func removeGivesRightsToTheRenamedTableAndNoneToItsSuccessor(_ mode: GuardMode) async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads" TO BOT"#)
        let before = try await hotel.accessLists().filter { $0.hasPrefix("Leads") }
        try await hotel.apply(mode)
        _ = try await hotel.admin.execute(
            """
            ALTER TABLE public."Leads" RENAME TO "Old"; CREATE TABLE public."Leads" (LIKE public."Old" INCLUDING ALL);
            ALTER TABLE public."Leads" OWNER TO "\(hotel.ownerRole)"; GRANT SELECT ON public."Leads" TO "\(hotel.botRole)";
            """)
        let successor = try await hotel.accessLists().filter { $0.hasPrefix("Leads") }
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.contains { $0.contains("\"Leads\"") && $0.contains("\"Old\"") })
        let after = try await hotel.accessLists()
        #expect(after.filter { $0.hasPrefix("Leads") } == successor)
        #expect(after.filter { $0.hasPrefix("Old") } == before.map { "Old" + $0.dropFirst("Leads".count) })
        #expect(try await hotel.leftovers() == "0")
    }

    /// A record made by names alone gave nothing back, and was thrown away.
    @Test func removeGivesRightsToTheRenamedRole() async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads", public."Reservas" TO BOT"#)
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce)
        let renamed = "new_\(hotel.botRole)"
        _ = try await hotel.admin.execute("ALTER ROLE \"\(hotel.botRole)\" RENAME TO \"\(renamed)\"")
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.isEmpty, "\(removed.notices)")
        #expect(try await hotel.accessLists() == before.map { $0.replacing(hotel.botRole, with: renamed) })
        #expect(try await hotel.leftovers() == "0")
        #expect(try await hotel.attempt(#"UPDATE public."Leads" SET "syncNote" = 'x'"#, as: renamed) == nil)
    }

    @Test(arguments: [(GuardMode.enforce, GuardMode.enforce), (.audit, .audit), (.audit, .enforce)])
    func applyGuardsTheSuccessorAndReleasesTheRenamedTable(_ first: GuardMode, _ second: GuardMode) async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads" TO BOT"#)
        let before = try await hotel.accessLists().filter { $0.hasPrefix("Leads") }
        try await hotel.apply(first)
        _ = try await hotel.admin.execute(
            """
            ALTER TABLE public."Leads" RENAME TO "Old"; CREATE TABLE public."Leads" (LIKE public."Old" INCLUDING ALL);
            """)
        let successor = try await hotel.accessLists().filter { $0.hasPrefix("Leads") }
        try await hotel.apply(second)
        #expect(try await hotel.accessLists().filter { $0.hasPrefix("Old") } == before.map { "Old" + $0.dropFirst(5) })
        #expect(try await hotel.apply(second).isEmpty)
        try await GuardCommand.remove(connection: hotel.admin)
        #expect(try await hotel.accessLists().filter { $0.hasPrefix("Leads") } == successor)
        #expect(try await hotel.leftovers() == "0")
    }

    @Test func tablesThatSwappedTheirNamesKeepTheirOwnRights() async throws {
        let hotel = try await guarded(
            #"GRANT ALL ON public."Leads" TO BOT; GRANT SELECT, UPDATE (phone) ON public."Reservas" TO BOT"#)
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce)
        let swap = """
            ALTER TABLE public."Leads" RENAME TO x; ALTER TABLE public."Reservas" RENAME TO "Leads";
            ALTER TABLE public.x RENAME TO "Reservas";
            """
        _ = try await hotel.admin.execute(swap)
        try await GuardCommand.remove(connection: hotel.admin)
        _ = try await hotel.admin.execute(swap)
        #expect(try await hotel.accessLists() == before)
    }

    @Test func aDroppedTableThatWasMadeAgainGetsTheGrantsOfItsNameAndANotice() async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads" TO BOT"#)
        try await hotel.apply(.enforce)
        _ = try await hotel.admin.execute(
            """
            ALTER TABLE public."Leads" RENAME TO x; CREATE TABLE public."Leads" (LIKE public.x INCLUDING ALL);
            DROP TABLE public.x; ALTER TABLE public."Leads" OWNER TO "\(hotel.ownerRole)";
            """)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.contains { $0.contains("\"Leads\"") && $0.contains("dropped") })
        // What the guard never took (SELECT) went with the table.
        #expect(try await hotel.attempt(#"UPDATE public."Leads" SET "syncNote" = '1'"#, as: hotel.botRole) == nil)
    }

    @Test func aRestoredDumpIsMatchedByName() async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads" TO BOT"#)
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce)
        // As in a restored dump: another database, in which the recorded number is another table's.
        _ = try await hotel.admin.execute(
            """
            UPDATE lindero.guarded_table SET database_id = '1/1', table_oid = CASE table_name
                WHEN 'Leads' THEN 'public."Reservas"'::regclass ELSE 'public."Leads"'::regclass END;
            """)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices == [])
        #expect(try await hotel.accessLists() == before)
    }

    @Test func renamedColumnsGetTheirGrantsBack() async throws {
        let hotel = try await guarded(
            """
            GRANT SELECT, INSERT, UPDATE ("syncNote", phone) ON public."Leads" TO BOT;
            GRANT UPDATE ("botNote") ON public."Leads" TO BOT WITH GRANT OPTION;
            """)
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce)
        let swap = """
            ALTER TABLE public."Leads" RENAME "syncNote" TO x; ALTER TABLE public."Leads" RENAME "botNote" TO "syncNote";
            ALTER TABLE public."Leads" RENAME x TO "botNote";
            """
        _ = try await hotel.admin.execute(swap)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices == [])
        _ = try await hotel.admin.execute(swap)
        #expect(try await hotel.accessLists() == before)
    }

    @Test func aColumnThatWasMadeAgainGetsNothing() async throws {
        let hotel = try await guarded(#"GRANT SELECT, UPDATE ("syncNote", phone) ON public."Leads" TO BOT"#)
        try await hotel.apply(.enforce)
        _ = try await hotel.admin.execute(
            #"ALTER TABLE public."Leads" DROP "syncNote"; ALTER TABLE public."Leads" ADD "syncNote" text"#)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.count == 1 && removed.notices[0].contains("not given back"))
        let lists = try await hotel.accessLists()
        #expect(lists.contains { $0.hasPrefix("Leads.phone") && $0.contains("\(hotel.botRole)=w/") })
        #expect(!lists.contains { $0.hasPrefix("Leads.syncNote") })
    }

    @Test func aRecordOfAnOlderVersionIsStillUndone() async throws {
        let hotel = try await guarded(#"GRANT ALL ON public."Leads" TO BOT; GRANT UPDATE (phone) ON public."Reservas" TO BOT"#)
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce)
        // As migrated from the version that kept names and OIDs alone.
        _ = try await hotel.admin.execute(
            """
            UPDATE lindero.guarded_table SET database_id = NULL; UPDATE lindero.guarded_grant SET column_number = NULL;
            ALTER TABLE public."Leads" RENAME TO "Old"; CREATE TABLE public."Leads" (LIKE public."Old" INCLUDING ALL);
            """)
        try await GuardCommand.remove(connection: hotel.admin)
        _ = try await hotel.admin.execute(#"DROP TABLE public."Leads"; ALTER TABLE public."Old" RENAME TO "Leads""#)
        #expect(try await hotel.accessLists() == before)
    }
}
