import PostgresClient
import ReplicationCore
import Testing

@testable import SharedBackend

@Suite struct GuardEnforceTests {
    @Test func foreignColumnsAreRefusedAndOwnColumnsPass() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            GRANT ALL ON public."Reservas", public."Leads" TO "\(hotel.botRole)", "\(hotel.syncRole)";
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "\(hotel.botRole)", "\(hotel.syncRole)";
            """)
        let plan = try await hotel.apply(.enforce)
        #expect(plan.problems == [])
        #expect(try await hotel.attempt(
            #"INSERT INTO public."Reservas" (id, "bookingId", "guestName") VALUES ('1', 'b-1', 'A')"#, as: hotel.syncRole)
            == nil)
        for (sql, bot, sync) in [
            (#"UPDATE public."Reservas" SET "crmNotes" = 'x'"#, nil, "42501"),
            (#"UPDATE public."Reservas" SET "apiData" = '{}'"#, "42501", nil),
            (#"UPDATE public."Reservas" SET "crmNotes" = 'x', "apiData" = '{}'"#, "42501", "42501"),
            (#"UPDATE public."Reservas" SET phone = '1'"#, nil, nil),
            (#"INSERT INTO public."Reservas" (id, "bookingId", "guestName") VALUES ('2', 'b-2', 'B')"#, "42501", nil),
            (#"INSERT INTO public."Reservas" (id, "bookingId", "guestName", "crmNotes") VALUES ('3', 'c', 'C', 'x')"#,
                "42501", "42501"),
            (#"INSERT INTO public."Leads" (phone, "botNote") VALUES ('1', 'x')"#, nil, "42501"),
            (#"INSERT INTO public."Leads" (phone, "syncNote") VALUES ('2', 'x')"#, "42501", nil),
            (#"DELETE FROM public."Leads" WHERE phone = '1'"#, nil, "42501"),
            (#"DELETE FROM public."Reservas" WHERE id = '2'"#, "42501", nil),
            (#"TRUNCATE public."Reservas""#, "42501", nil),
            (#"SELECT * FROM public."Reservas""#, nil, nil),
        ] as [(String, String?, String?)] {
            #expect(try await hotel.attempt(sql, as: hotel.botRole) == bot, "bot: \(sql)")
            #expect(try await hotel.attempt(sql, as: hotel.syncRole) == sync, "sync: \(sql)")
        }
    }

    @Test func removeRestoresEveryKindOfGrant() async throws {
        let hotel = try await HotelDatabase()
        let (bot, sync, owner) = (hotel.botRole, hotel.syncRole, hotel.ownerRole)
        let lender = "lender_\(bot)"
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "\(lender)"; CREATE ROLE "reader_\(bot)";
            GRANT ALL ON public."Reservas" TO "\(bot)";
            GRANT UPDATE, SELECT ON public."Reservas" TO "\(sync)" WITH GRANT OPTION;
            GRANT UPDATE ("crmNotes"), INSERT ("apiData", phone) ON public."Reservas" TO "\(sync)";
            GRANT UPDATE (phone) ON public."Reservas" TO "\(sync)" WITH GRANT OPTION;
            GRANT SELECT ON public."Reservas" TO "reader_\(bot)";
            GRANT INSERT, UPDATE, DELETE ON public."Leads" TO PUBLIC;
            GRANT UPDATE ("syncNote"), SELECT (phone) ON public."Leads" TO PUBLIC;
            GRANT UPDATE ON public."Leads" TO "\(lender)" WITH GRANT OPTION;
            SET ROLE "\(lender)"; GRANT UPDATE ON public."Leads" TO "\(bot)"; RESET ROLE;
            """)
        let before = try await hotel.accessLists()
        #expect(before.contains { $0.contains("/\(lender)") })

        let applied = try await hotel.apply(.enforce)
        #expect(applied.notices.contains { $0.contains("PUBLIC loses") })
        let enforced = try await hotel.accessLists()
        #expect(enforced != before)
        #expect(try await hotel.attempt(#"UPDATE public."Leads" SET "syncNote" = '1'"#, as: bot) == "42501")
        #expect(try await hotel.attempt(#"UPDATE public."Leads" SET "botNote" = '1'"#, as: bot) == nil)

        let again = try await hotel.apply(.enforce)
        #expect(again.isEmpty, "\(again.script)")
        #expect(try await hotel.accessLists() == enforced)

        try await hotel.apply(.audit)
        #expect(try await hotel.accessLists() == before)
        try await hotel.apply(.enforce)
        #expect(try await hotel.accessLists() == enforced)

        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices == [])
        #expect(try await hotel.accessLists() == before)
        #expect(try await hotel.leftovers() == "0")
        #expect(try await GuardCommand.remove(connection: hotel.admin).isEmpty)
        #expect(try await hotel.value(#"SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'Leads'"#) == owner)
    }

    @Test func grantsChangedSinceAreKeptAndReported() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(#"GRANT ALL ON public."Leads" TO "\#(hotel.botRole)""#)
        try await hotel.apply(.enforce)
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "later_\(hotel.botRole)"; GRANT SELECT ON public."Leads" TO "later_\(hotel.botRole)";
            """)
        let removed = try await GuardCommand.remove(connection: hotel.admin)
        #expect(removed.notices.count == 1 && removed.notices[0].contains("\"Leads\""))
        let lists = try await hotel.accessLists()
        #expect(lists.contains { $0.hasPrefix("Leads ") && $0.contains("later_\(hotel.botRole)=r/") })
        #expect(lists.contains { $0.hasPrefix("Leads ") && $0.contains("\(hotel.botRole)=arwdDxt") })
    }

    @Test func twoAppliesAtOnceLeaveOneGuard() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(#"GRANT ALL ON public."Leads", public."Reservas" TO "\#(hotel.botRole)""#)
        let before = try await hotel.accessLists()
        let policy = try await hotel.policy()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<4 {
                group.addTask {
                    let connection = try await PostgresConnection.connect(ConnectionOptions(hotel.url))
                    try await GuardCommand.apply(
                        connection: connection, policy: policy, configuration: hotel.configuration,
                        mode: number.isMultiple(of: 2) ? .enforce : .audit)
                    await connection.close()
                }
            }
            try await group.waitForAll()
        }
        try await GuardCommand.remove(connection: hotel.admin)
        #expect(try await hotel.accessLists() == before)
        #expect(try await hotel.leftovers() == "0")
    }

    @Test func partitionsAreGuardedWithTheirRoot() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            CREATE TABLE public."Events" (id int PRIMARY KEY, "botNote" text, "syncNote" text) PARTITION BY RANGE (id);
            CREATE TABLE public."Events_1" PARTITION OF public."Events" FOR VALUES FROM (0) TO (10);
            GRANT ALL ON public."Events", public."Events_1" TO "\(hotel.botRole)";
            INSERT INTO public."Events" VALUES (1);
            """)
        var configuration = hotel.configuration
        configuration.tables = [
            TableRule(pattern: "Events", owned: ["bot": ["id", "botNote"], "sync": ["syncNote"]])
        ]
        let before = try await hotel.accessLists()
        try await hotel.apply(.enforce, configuration)
        #expect(try await hotel.attempt(#"UPDATE public."Events_1" SET "syncNote" = '1'"#, as: hotel.botRole) == "42501")
        #expect(try await hotel.attempt(#"UPDATE public."Events" SET "syncNote" = '1'"#, as: hotel.botRole) == "42501")
        #expect(try await hotel.attempt(#"UPDATE public."Events" SET "botNote" = '1'"#, as: hotel.botRole) == nil)
        try await hotel.apply(.audit, configuration)
        #expect(try await hotel.attempt(#"UPDATE public."Events" SET "syncNote" = '1'"#, as: hotel.botRole) == nil)
        #expect(try await AuditReport.read(connection: hotel.admin).lines.map(\.column) == ["syncNote"])
        try await GuardCommand.remove(connection: hotel.admin)
        #expect(try await hotel.accessLists() == before)
        #expect(try await hotel.leftovers() == "0")
    }
}
