import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import SharedBackend

/// Writes that the audit tells apart: roles that came later, and rows that move between partitions.
@Suite struct GuardAuditRoleTests {
    private func recorded(_ hotel: HotelDatabase) async throws -> [String] {
        try await AuditReport.read(connection: hotel.admin).newest.reversed().map { violation in
            "\(violation.side) \(violation.role) \(violation.operation) \(violation.columns.joined(separator: ","))"
        }
    }

    @Test func loginsMadeAfterTheAuditAreRecorded() async throws {
        let hotel = try await HotelDatabase()
        let bot = hotel.botRole
        _ = try await hotel.admin.execute(
            """
            GRANT ALL ON public."Leads" TO "\(bot)"; INSERT INTO public."Leads" (phone) VALUES ('1');
            """)
        try await hotel.apply(.audit)
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "member_\(bot)" LOGIN IN ROLE "\(bot)"; CREATE ROLE "cron_\(bot)" LOGIN;
            CREATE ROLE "boss_\(bot)" LOGIN IN ROLE "\(hotel.ownerRole)";
            GRANT ALL ON public."Leads" TO "cron_\(bot)";
            """)
        let foreign = #"UPDATE public."Leads" SET "syncNote" = 'x' || random()"#
        let own = #"UPDATE public."Leads" SET "botNote" = 'x' || random()"#
        for role in ["member_\(bot)", "cron_\(bot)", "boss_\(bot)", "postgres"] {
            #expect(try await hotel.attempt("\(foreign); \(own)", as: role) == nil)
        }
        #expect(try await hotel.attempt(#"DELETE FROM public."Leads""#, as: "member_\(bot)") == nil)
        #expect(try await hotel.attempt(#"INSERT INTO public."Leads" (id, phone) VALUES (7, '2')"#, as: "cron_\(bot)") == nil)
        #expect(try await hotel.attempt(#"TRUNCATE public."Leads""#, as: "cron_\(bot)") == nil)
        #expect(try await recorded(hotel) == [
            "bot member_\(bot) UPDATE syncNote", "(unlisted) cron_\(bot) UPDATE syncNote",
            "(unlisted) cron_\(bot) UPDATE botNote", "(unlisted) cron_\(bot) INSERT ", "(unlisted) cron_\(bot) TRUNCATE ",
        ])
        #expect(try await hotel.apply(.audit).isEmpty)
        // A role that goes breaks nobody's writes.
        _ = try await hotel.admin.execute(#"DROP OWNED BY "\#(hotel.syncRole)"; DROP ROLE "\#(hotel.syncRole)""#)
        #expect(try await hotel.attempt(#"INSERT INTO public."Leads" (id, phone) VALUES (8, '3')"#, as: "member_\(bot)") == nil)
    }

    @Test func aRowThatMovesBetweenPartitionsIsAnUpdate() async throws {
        let hotel = try await HotelDatabase()
        let (bot, sync) = (hotel.botRole, hotel.syncRole)
        _ = try await hotel.admin.execute(
            """
            CREATE TABLE public.ev (id int, day int, a text, b text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
            CREATE TABLE public.ev_1 PARTITION OF public.ev FOR VALUES FROM (0) TO (10);
            CREATE TABLE public.ev_2 PARTITION OF public.ev FOR VALUES FROM (10) TO (20);
            GRANT ALL ON public.ev, public.ev_1, public.ev_2 TO "\(bot)", "\(sync)";
            INSERT INTO public.ev VALUES (1, 1, 'a', 'b'), (2, 2, 'a', 'b'), (3, 3, 'a', 'b');
            """)
        var configuration = hotel.configuration
        configuration.tables = [
            TableRule(
                pattern: "ev", insertOwners: ["sync"], deleteOwners: ["sync"],
                owned: ["bot": ["a"], "sync": ["id", "day", "b"]])
        ]
        try await hotel.apply(.audit, configuration)
        #expect(try await hotel.apply(.audit, configuration).isEmpty)
        for (sql, role) in [
            // Its owner moves rows: nothing, though they hold a foreign column.
            ("UPDATE public.ev SET day = day + 10", sync), ("UPDATE public.ev SET day = day - 10, b = 'c'", sync),
            ("UPDATE public.ev SET day = day + 10, a = 'stolen' WHERE id <= 2", sync),
            ("UPDATE public.ev SET day = day - 10, a = 'own' WHERE id = 1", bot),
            // Moved, and not moved, in one statement.
            ("UPDATE public.ev SET day = 4, a = 'own', b = 'stolen' WHERE id IN (2, 3)", bot),
            ("INSERT INTO public.ev VALUES (4, 4, NULL, 'b')", sync), ("INSERT INTO public.ev VALUES (5, 5, 'a', 'b')", bot),
            ("BEGIN; UPDATE public.ev SET a = 'y' WHERE id = 4; DELETE FROM public.ev WHERE id = 4; COMMIT", bot),
            ("DELETE FROM public.ev WHERE id = 5", sync),
            // A setting hides nothing.
            (#"SET lindero.moving = '"public"."ev"'; DELETE FROM public.ev WHERE id = 3"#, bot),
        ] {
            #expect(try await hotel.attempt(sql, as: role) == nil, "\(sql)")
        }
        #expect(try await recorded(hotel) == [
            "sync \(sync) UPDATE a", "sync \(sync) UPDATE a", "bot \(bot) UPDATE day",
            "bot \(bot) UPDATE day,b", "bot \(bot) UPDATE day,b", "bot \(bot) INSERT ", "bot \(bot) DELETE ",
            "bot \(bot) DELETE ",
        ])
        let keys = try await AuditReport.read(connection: hotel.admin).newest.compactMap(\.key).reversed()
        #expect(Set(keys.prefix(5)) == Set([(1, 1), (1, 11), (2, 12), (2, 2), (3, 3)].map { #"{"id": \#($0), "day": \#($1)}"# }))
        try await GuardCommand.remove(connection: hotel.admin)
        #expect(try await hotel.leftovers() == "0")
    }
}
