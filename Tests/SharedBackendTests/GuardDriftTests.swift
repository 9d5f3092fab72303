import PostgresClient
import ReplicationCore
import Testing

@testable import SharedBackend

@Suite struct GuardDriftTests {
    private func review(_ hotel: HotelDatabase, _ configuration: LinderoConfiguration? = nil) async throws -> GuardPlan? {
        let configuration = configuration ?? hotel.configuration
        return try await GuardCommand.review(
            connection: hotel.admin, policy: try await hotel.policy(configuration), configuration: configuration)
    }

    private func events(_ hotel: HotelDatabase) async throws -> LinderoConfiguration {
        _ = try await hotel.admin.execute(
            """
            CREATE TABLE public.ev (id int PRIMARY KEY, a text, b text) PARTITION BY RANGE (id);
            CREATE TABLE public.ev_1 PARTITION OF public.ev FOR VALUES FROM (0) TO (10);
            GRANT ALL ON public.ev TO "\(hotel.botRole)"; INSERT INTO public.ev VALUES (1);
            """)
        var configuration = hotel.configuration
        configuration.tables = [TableRule(pattern: "public.ev*", owned: ["bot": ["id", "a"], "sync": ["b"]])]
        return configuration
    }

    @Test func nothingIsToldWhileTheGuardIsOffOrHolds() async throws {
        let hotel = try await HotelDatabase()
        #expect(try await review(hotel) == nil)
        for mode in GuardMode.allCases {
            try await hotel.apply(mode)
            let held = try await review(hotel)
            #expect(held?.mode == mode && held?.drift == nil)
        }
    }

    @Test func aPartitionWithDefaultPrivilegesIsDriftAndTheDefaultsAreNamed() async throws {
        let hotel = try await HotelDatabase()
        let configuration = try await events(hotel)
        _ = try await hotel.admin.execute(
            """
            ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, UPDATE ON TABLES TO "\(hotel.botRole)";
            ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO PUBLIC;
            """)
        let applied = try await hotel.apply(.enforce, configuration)
        let named = applied.notices.filter { $0.contains("ALTER DEFAULT PRIVILEGES") }
        #expect(named.count == 2)
        #expect(named.contains {
            $0.contains(
                #"ALTER DEFAULT PRIVILEGES FOR ROLE "postgres" IN SCHEMA "public" REVOKE UPDATE ON TABLES FROM "\#(hotel.botRole)";"#)
        })
        #expect(try await review(hotel, configuration)?.drift == nil)

        _ = try await hotel.admin.execute(
            "CREATE TABLE public.ev_2 PARTITION OF public.ev FOR VALUES FROM (10) TO (20); INSERT INTO public.ev VALUES (11)")
        #expect(try await hotel.attempt("UPDATE public.ev_2 SET b = '1'", as: hotel.botRole) == nil)
        let drift = try await review(hotel, configuration)?.drift
        #expect(drift?.contains("drifted") == true && drift?.contains("ev_2") == true)

        try await hotel.apply(.enforce, configuration)
        #expect(try await hotel.attempt("UPDATE public.ev_2 SET b = '1'", as: hotel.botRole) == "42501")
        #expect(try await review(hotel, configuration)?.drift == nil)
    }

    @Test func grantsRolesAndTablesOfLaterAreDrift() async throws {
        let hotel = try await HotelDatabase()
        try await hotel.apply(.enforce)
        _ = try await hotel.admin.execute(#"GRANT UPDATE ON public."Leads" TO "\#(hotel.botRole)""#)
        #expect(try await review(hotel)?.drift?.contains("\"Leads\"") == true)
        try await hotel.apply(.enforce)
        _ = try await hotel.admin.execute(#"ALTER ROLE "\#(hotel.botRole)" SUPERUSER"#)
        #expect(try await review(hotel)?.drift?.contains("superuser") == true)
    }

    @Test func aTableWhoseAuditTriggerIsGoneHasDrifted() async throws {
        let hotel = try await HotelDatabase()
        try await hotel.apply(.audit)
        let trigger = try #require(
            try await hotel.value(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.\"Leads\"'::regclass AND tgname LIKE 'lindero%' LIMIT 1"))
        _ = try await hotel.admin.execute(#"DROP TRIGGER "\#(trigger)" ON public."Leads""#)
        #expect(try await review(hotel)?.drift?.contains("\"Leads\"") == true)
    }

    @Test func aRoleWithoutRightsOnTheRecordIsToldNothing() async throws {
        let hotel = try await HotelDatabase()
        try await hotel.apply(.enforce)
        let connection = try await PostgresConnection.connect(ConnectionOptions(hotel.conninfo(as: hotel.botRole)))
        #expect(try await GuardCommand.state(connection: connection) == nil)
        await connection.close()
    }
}
