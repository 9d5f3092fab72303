import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import SharedBackend

/// Ways around column grants, and what a guard takes besides them.
@Suite struct GuardBypassTests {
    @Test func viewsOverViewsAreMentionedWhereTheyLeadToTheTable() async throws {
        let hotel = try await HotelDatabase()
        let bot = hotel.botRole
        _ = try await hotel.admin.execute(
            """
            CREATE VIEW public.v1 AS SELECT * FROM public."Leads"; CREATE VIEW public.v2 AS SELECT * FROM public.v1;
            CREATE VIEW public.v3 AS SELECT * FROM public.v2; GRANT SELECT, UPDATE ON public.v3 TO "\(bot)";
            CREATE TABLE public.log (id int); GRANT INSERT ON public.log TO "\(bot)";
            CREATE RULE forward AS ON INSERT TO public.log DO ALSO DELETE FROM public."Leads" WHERE id = NEW.id;
            INSERT INTO public."Leads" (phone) VALUES ('1');
            """)
        let plan = try await hotel.apply(.enforce)
        #expect(plan.notices.contains { $0.contains("view \"v3\"") && $0.contains(bot) && $0.contains("\"Leads\"") })
        #expect(plan.notices.contains { $0.contains("\"log\"") })
        #expect(!plan.notices.contains { $0.contains("view \"v1\"") || $0.contains("view \"v2\"") })
        #expect(try await hotel.attempt(#"UPDATE public.v3 SET "syncNote" = 'x'"#, as: bot) == nil)
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15))
    func aViewThatWritesWithTheCallersRightsIsNoWayAround() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            CREATE VIEW public.v1 WITH (security_invoker = 1) AS SELECT * FROM public."Leads";
            CREATE VIEW public.v2 AS SELECT * FROM public.v1; CREATE VIEW public.w1 AS SELECT * FROM public."Leads";
            CREATE VIEW public.w2 WITH (security_invoker = on) AS SELECT * FROM public.w1;
            GRANT ALL ON public.v1, public.v2, public.w2 TO "\(hotel.botRole)";
            """)
        let plan = try await hotel.apply(.enforce)
        #expect(!plan.notices.contains { $0.contains("view") })
        for view in ["v1", "v2", "w2"] {
            #expect(try await hotel.attempt("UPDATE public.\(view) SET \"syncNote\" = 'x'", as: hotel.botRole) == "42501")
        }
    }

    /// What a foreign key's action writes is the referring table's owner's: no grant holds it back, and no audit sees a side.
    @Test(arguments: GuardMode.allCases) func actionsOfForeignKeysAreMentionedWhereTheyCrossTheBoundary(_ mode: GuardMode) async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            ALTER TABLE public."Reservas" ADD CONSTRAINT across FOREIGN KEY (phone) REFERENCES public."Leads" (phone) ON DELETE CASCADE,
              ADD CONSTRAINT code FOREIGN KEY ("beds24Status") REFERENCES public."Leads" (phone) ON UPDATE CASCADE ON DELETE SET NULL,
              ADD CONSTRAINT own FOREIGN KEY ("whatsappThreadId") REFERENCES public."Leads" (phone) ON UPDATE NO ACTION ON DELETE SET NULL,
              ADD CONSTRAINT still FOREIGN KEY ("apiData") REFERENCES public.docs ON DELETE RESTRICT;
            """.replacing("ALTER", with: "CREATE TABLE public.docs (id jsonb PRIMARY KEY); ALTER", maxReplacements: 1))
        let notices = try await hotel.apply(mode).notices.filter { $0.hasPrefix("Foreign key") }
        #expect(notices.count == 2, "\(notices)")
        #expect(notices.contains { $0.contains("\"across\"") && $0.contains("when bot deletes there, rows here go") })
        let code = try #require(notices.first { $0.contains("\"code\"") })
        #expect(code.contains("when bot deletes there, beds24Status changes here"))
        #expect(!code.contains("when sync"))
        // It is true.
        _ = try await hotel.admin.execute(
            """
            INSERT INTO public."Leads" (phone) VALUES ('1');
            INSERT INTO public."Reservas" (id, "bookingId", "guestName", phone) VALUES ('a', 'a', 'a', '1');
            GRANT DELETE, SELECT ON public."Leads" TO "\(hotel.botRole)";
            """)
        #expect(try await hotel.attempt(#"DELETE FROM public."Leads""#, as: hotel.botRole) == nil)
        #expect(try await hotel.value(#"SELECT count(*) FROM public."Reservas""#) == "0")
        #expect(try await hotel.value("SELECT count(*) FROM lindero.audit WHERE table_name = 'Reservas'") == "0")
    }

    @Test func tablesThatInheritAndOwnersOfTheSchemaAreMentioned() async throws {
        let hotel = try await HotelDatabase()
        let bot = hotel.botRole
        _ = try await hotel.admin.execute(
            """
            CREATE TABLE public.heir () INHERITS (public."Leads"); CREATE TABLE public.later () INHERITS (public.heir);
            CREATE TABLE public.closed () INHERITS (public."Leads"); GRANT INSERT ON public.later TO "\(bot)";
            ALTER SCHEMA public OWNER TO "\(bot)";
            """)
        let notices = try await hotel.apply(.enforce).notices
        #expect(notices.contains { $0.contains("\"later\", which inherits from \"Leads\"") && $0.contains(bot) })
        #expect(!notices.contains { $0.contains("\"heir\"") || $0.contains("\"closed\"") })
        #expect(notices.contains { $0.contains("\"\(bot)\" may drop what is in schema \"public\", which it owns") })
        #expect(try await hotel.attempt(#"DROP TABLE public."Reservas""#, as: bot) == nil)
    }

    @Test func roleMakersAndMembersOfSuperusersAreProblems() async throws {
        let hotel = try await HotelDatabase()
        let (bot, sync) = (hotel.botRole, hotel.syncRole)
        _ = try await hotel.admin.execute(
            """
            ALTER ROLE "\(bot)" CREATEROLE; CREATE ROLE "root_\(bot)" SUPERUSER; GRANT "root_\(bot)" TO "\(sync)";
            """)
        let problems = try await hotel.plan(.enforce).problems
        #expect(problems.contains(.memberOfSuperuser(role: sync, superuser: "root_\(bot)")))
        if PostgresBinaries.defaultVersion < 16 {
            #expect(problems.contains(.createsRoles(role: bot, holder: bot)))
            #expect(problems.contains { $0.description.contains("ALTER ROLE \"\(bot)\" NOCREATEROLE;") })
            #expect(try await hotel.attempt("GRANT \"\(hotel.ownerRole)\" TO \"\(bot)\"", as: bot) == nil)
        } else {
            #expect(!problems.contains(.createsRoles(role: bot, holder: bot)))
            #expect(try await hotel.attempt("GRANT \"\(hotel.ownerRole)\" TO \"\(bot)\"", as: bot) == "42501")
            _ = try await hotel.admin.execute(
                "GRANT \"\(hotel.ownerRole)\" TO \"\(bot)\" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
            #expect(try await hotel.plan(.enforce).problems.contains {
                if case .actsAsOwner(bot, hotel.ownerRole, _) = $0 { true } else { false }
            })
        }
    }

    @Test func definerFunctionsAreMentioned() async throws {
        let hotel = try await HotelDatabase()
        let bot = hotel.botRole
        _ = try await hotel.admin.execute(
            """
            CREATE FUNCTION public.steal(text) RETURNS void LANGUAGE sql SECURITY DEFINER
                AS $$ UPDATE public."Leads" SET "syncNote" = $1 $$;
            CREATE FUNCTION public.closed() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT';
            REVOKE ALL ON FUNCTION public.closed() FROM PUBLIC;
            CREATE FUNCTION public.harmless() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT';
            CREATE ROLE "nobody_\(bot)"; ALTER FUNCTION public.harmless() OWNER TO "nobody_\(bot)";
            CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER stamp BEFORE UPDATE ON public."Leads" FOR EACH ROW EXECUTE FUNCTION public.stamp();
            """)
        for mode in GuardMode.allCases {
            let notice = try await hotel.plan(mode).notices.first { $0.contains("DEFINER") && $0.contains(bot) }
            #expect(notice?.contains("public.steal(text) as \"postgres\"") == true)
            // Until the guard grants it, the role has no write that could fire the trigger.
            #expect(notice?.contains("closed") == false && notice?.contains("harmless") == false)
        }
        try await hotel.apply(.enforce)
        #expect(try await hotel.plan(.enforce).notices.contains { $0.contains("public.stamp() in a trigger") })
    }

    @Test func rolesThatTheFileDoesNotListAreNamed() async throws {
        let hotel = try await HotelDatabase()
        let bot = hotel.botRole
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "cron_\(bot)" LOGIN; GRANT UPDATE ("syncNote") ON public."Leads" TO "cron_\(bot)";
            CREATE ROLE "reader_\(bot)" LOGIN; GRANT SELECT ON public."Leads" TO "reader_\(bot)";
            """)
        for mode in GuardMode.allCases {
            let notices = try await hotel.apply(mode).notices.filter { $0.contains("does not list") }
            #expect(notices.count == 1 && notices[0].contains("\"cron_\(bot)\" (\"Leads\")"))
            #expect(!notices.contains { $0.contains("reader_\(bot)") })
        }
        #expect(try await GuardCommand.remove(connection: hotel.admin).notices == [])
    }

    @Test func aGrantorThatTheConnectionCannotBeIsAProblemOfThePlan() async throws {
        let hotel = try await HotelDatabase()
        let (bot, owner) = (hotel.botRole, hotel.ownerRole)
        let lender = "lender_\(bot)"
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "\(lender)"; GRANT UPDATE ON public."Leads" TO "\(lender)" WITH GRANT OPTION;
            SET ROLE "\(lender)"; GRANT UPDATE ON public."Leads" TO "\(bot)"; RESET ROLE;
            CREATE ROLE "dba_\(bot)" LOGIN IN ROLE "\(owner)"; GRANT USAGE, CREATE ON SCHEMA lindero TO "dba_\(bot)";
            GRANT ALL ON ALL TABLES IN SCHEMA lindero TO "dba_\(bot)";
            """)
        let connection = try await PostgresConnection.connect(ConnectionOptions(hotel.conninfo(as: "dba_\(bot)")))
        let policy = try await hotel.policy()
        func plan() async throws -> GuardPlan {
            try await GuardCommand.plan(
                connection: connection, policy: policy, configuration: hotel.configuration, mode: .enforce)
        }
        let table = QualifiedName(schema: "public", name: "Leads")
        let problem = GuardProblem.notGrantor(role: "dba_\(bot)", grantor: lender, table: table)
        #expect(try await plan().problems == [problem])
        #expect(problem.description.contains("GRANT \"\(lender)\" TO \"dba_\(bot)\";"))
        _ = try await hotel.admin.execute("GRANT \"\(lender)\" TO \"dba_\(bot)\"")
        #expect(try await plan().problems == [])
        let before = try await hotel.accessLists()
        try await GuardCommand.apply(
            connection: connection, policy: policy, configuration: hotel.configuration, mode: .enforce)
        #expect(try await hotel.attempt(#"UPDATE public."Leads" SET "syncNote" = '1'"#, as: bot) == "42501")
        try await GuardCommand.remove(connection: connection)
        await connection.close()
        #expect(try await hotel.accessLists() == before)
    }

    @Test func aSequenceThatTheInserterMayNotUseIsToldWithItsGrant() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute("CREATE TABLE public.\"Calls\" (id serial PRIMARY KEY, note text)")
        var configuration = hotel.configuration
        configuration.tables = [TableRule(pattern: "Calls", owned: ["bot": ["note"]])]
        let plan = try await hotel.apply(.enforce, configuration)
        let insert = #"INSERT INTO public."Calls" (note) VALUES ('x')"#
        #expect(try await hotel.attempt(insert, as: hotel.botRole) == "42501")
        let grant = #"GRANT USAGE ON SEQUENCE "public"."Calls_id_seq" TO "\#(hotel.botRole)";"#
        #expect(plan.notices.filter { $0.contains("SEQUENCE") }.map { $0.hasSuffix(grant) } == [true])
        _ = try await hotel.admin.execute(grant)
        #expect(try await hotel.attempt(insert, as: hotel.botRole) == nil)
        // Roles that other tests make on the same server are no business of this one.
        #expect(try await hotel.plan(.enforce, configuration).notices.filter { $0.contains("SEQUENCE") } == [])
    }

    @Test func anApplyThatChangesNothingSaysNothingAboutPUBLIC() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(#"GRANT UPDATE ON public."Leads" TO PUBLIC"#)
        #expect(try await hotel.apply(.enforce).notices.contains { $0.contains("PUBLIC loses UPDATE") })
        let again = try await hotel.apply(.enforce)
        #expect(again.isEmpty)
        #expect(again.notices.filter { $0.contains("PUBLIC") } == [])
    }

    @Test(arguments: GuardMode.allCases)
    func thePlannedScriptIsWhatApplyRuns(_ mode: GuardMode) async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            GRANT ALL ON public."Leads", public."Reservas" TO "\(hotel.botRole)"; GRANT UPDATE ON public."Leads" TO PUBLIC;
            GRANT UPDATE ("syncNote") ON public."Leads" TO "\(hotel.syncRole)" WITH GRANT OPTION;
            """)
        let before = try await hotel.accessLists()
        let triggers = "SELECT string_agg(pg_get_triggerdef(oid), ';' ORDER BY tgname) FROM pg_trigger WHERE tgname LIKE 'lindero%'"
        let planned = try await hotel.plan(mode)
        #expect(try await hotel.accessLists() == before)
        #expect(try await hotel.apply(mode).script == planned.script)
        let (applied, appliedTriggers) = (try await hotel.accessLists(), try await hotel.value(triggers))
        let removal = try await GuardCommand.planRemoval(connection: hotel.admin)
        #expect(try await GuardCommand.remove(connection: hotel.admin).script == removal.script)
        #expect(try await hotel.accessLists() == before)
        // By hand, as psql would.
        _ = try await hotel.admin.execute(planned.script)
        #expect(try await hotel.accessLists() == applied)
        #expect(try await hotel.value(triggers) == appliedTriggers)
        _ = try await hotel.admin.execute(removal.script)
        #expect(try await hotel.accessLists() == before)
    }
}
