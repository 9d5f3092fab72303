import PostgresClient
import TestSupport
import Testing

@testable import Replicator

/// Who belongs to a service, and who to Lindero.
@Suite struct ServiceSessionsTests {
    @Test func aServiceIsSeenWhateverItCallsItself() async throws {
        let scene = try await MoveScene()
        let peer = try #require(await scene.bot.peer)
        var services: [PostgresConnection] = []
        for name in ["lindero", "lindero-sync", "lindero advance --execute", ""] {
            var options = ConnectionOptions("postgresql://\(scene.syncRole)@\(peer.host):\(peer.port)/\(peer.database)")
            options.applicationName = name
            services.append(try await PostgresConnection.connect(options))
        }
        let seen = try await ServiceSessions(connection: scene.bot, roles: [scene.syncRole]).read()
        #expect(seen.count == services.count, "\(seen)")
        for service in services { await service.close() }
    }

    /// Where Lindero has the service's own role, its name tells its sessions.
    @Test func ourOwnAreLeftOutWhereWeHaveTheServicesRole() async throws {
        let scene = try await MoveScene()
        let peer = try #require(await scene.bot.peer)
        var options = ConnectionOptions("postgresql://\(scene.syncRole)@\(peer.host):\(peer.port)/\(peer.database)")
        let ours = try await PostgresConnection.connect(options)
        let worker = try await PostgresConnection.connect(options)
        options.applicationName = "lindero advance --to split --execute me@here:1"
        let leader = try await PostgresConnection.connect(options)
        options.applicationName = "lindero-sync"
        let service = try await PostgresConnection.connect(options)
        let seen = try await ServiceSessions(connection: ours, roles: [scene.syncRole]).read()
        #expect(seen.map(\.application) == ["lindero-sync"])
        for session in [ours, worker, leader, service] { await session.close() }
    }
}
