import PostgresClient
import ReplicationCore
import Testing

@testable import SharedBackend

@Suite struct GuardProblemTests {
    private func problems(_ hotel: HotelDatabase, bot: [String], sync: [String]) async throws -> [GuardProblem] {
        try await hotel.plan(.enforce, HotelDatabase.configuration(bot: bot, sync: sync)).problems
    }

    @Test func rolesThatGrantsCannotRestrainAreNamedWithTheFix() async throws {
        let hotel = try await HotelDatabase(migrates: false)
        let (bot, sync, owner) = (hotel.botRole, hotel.syncRole, hotel.ownerRole)
        let leads = QualifiedName(schema: "public", name: "Leads")
        let reservas = QualifiedName(schema: "public", name: "Reservas")
        #expect(try await problems(hotel, bot: [owner], sync: [sync])
            == [.actsAsOwner(role: owner, owner: owner, tables: [leads, reservas])])
        #expect(try await problems(hotel, bot: ["postgres"], sync: [sync]) == [.superuser(role: "postgres", side: "bot")])
        #expect(try await problems(hotel, bot: [bot], sync: [bot]).contains(.roleOnTwoSides(role: bot, sides: ["bot", "sync"])))
        #expect(try await problems(hotel, bot: [bot], sync: []) == [.sideWithoutRoles(side: "sync")])
        #expect(try await problems(hotel, bot: [], sync: []) == [.noRoles])
        #expect(try await problems(hotel, bot: [bot.uppercased()], sync: [sync])
            == [.roleMissing(role: bot.uppercased(), side: "bot", suggestion: bot)])

        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "group_\(bot)"; GRANT "group_\(bot)" TO "\(bot)";
            GRANT UPDATE, DELETE ON public."Reservas" TO "group_\(bot)";
            GRANT "\(sync)" TO "\(bot)";
            GRANT pg_write_all_data TO "\(sync)";
            """)
        let found = try await problems(hotel, bot: [bot], sync: [sync])
        #expect(found.contains(
            .inherits(role: bot, from: "group_\(bot)", table: reservas, privileges: ["DELETE", "UPDATE"])))
        #expect(found.contains(.memberOfOtherSide(role: bot, side: "bot", other: sync, otherSide: "sync")))
        #expect(found.contains(.writesAllData(role: sync)))
        for problem in found { #expect(problem.description.contains("REVOKE")) }
    }

    @Test func grantsGivenOnwardBlockAndNothingIsChanged() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            CREATE ROLE "friend_\(hotel.botRole)";
            GRANT UPDATE ON public."Leads" TO "\(hotel.botRole)" WITH GRANT OPTION; SET ROLE "\(hotel.botRole)";
            GRANT UPDATE ON public."Leads" TO "friend_\(hotel.botRole)"; RESET ROLE;
            """)
        let before = try await hotel.accessLists()
        await #expect(throws: GuardCommand.Failure.self) { try await hotel.apply(.enforce) }
        #expect(try await hotel.accessLists() == before)
        #expect(try await hotel.leftovers() == "0")
    }

    @Test func unmigratedDatabaseIsNamed() async throws {
        let hotel = try await HotelDatabase(migrates: false)
        await #expect(throws: GuardCommand.Failure.notMigrated) { try await hotel.apply(.enforce) }
    }

    @Test func aConnectionWithoutTheOwnersRightsIsNamed() async throws {
        let hotel = try await HotelDatabase()
        let connection = try await PostgresConnection.connect(ConnectionOptions(hotel.conninfo(as: hotel.botRole)))
        let plan = try await GuardCommand.plan(
            connection: connection, policy: try await hotel.policy(), configuration: hotel.configuration, mode: .audit)
        await connection.close()
        #expect(plan.problems.contains(
            .notAdministrator(
                role: hotel.botRole, owner: hotel.ownerRole, table: QualifiedName(schema: "public", name: "Leads"))))
    }

    @Test func writableViewsAreMentioned() async throws {
        let hotel = try await HotelDatabase()
        _ = try await hotel.admin.execute(
            """
            CREATE VIEW public."All" AS SELECT * FROM public."Leads"; GRANT UPDATE ON public."All" TO "\(hotel.botRole)";
            """)
        let plan = try await hotel.plan(.enforce)
        #expect(plan.notices.contains { $0.contains("view \"All\"") })
    }
}
