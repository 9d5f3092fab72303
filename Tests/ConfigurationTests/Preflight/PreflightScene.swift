import PostgresClient
import ReplicationCore
import Replicator
import TestSupport

/// Two real databases and a configuration, for preflight to look at.
struct PreflightScene {
    enum Side { case source, target }

    /// Cluster and database of each side; the role is added when they are reached.
    let source: (cluster: PostgresCluster, database: String)
    let target: (cluster: PostgresCluster, database: String)
    var configuration: LinderoConfiguration
    var sourceUser = "postgres"
    var targetUser = "postgres"
    var ownSlots: Set<String> = []
    var longTransactionSeconds = 60
    var movesServices = false

    static let sample = """
        CREATE TABLE "Reservas" (id int PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, status text);
        """

    /// - Parameter script: run on both sides before the test's own statements.
    static func make(
        source: PostgresCluster? = nil, target: PostgresCluster? = nil, script: String = sample,
        backend: LinderoConfiguration.Backend = .replica
    ) async throws -> PreflightScene {
        var clusters: [PostgresCluster] = []
        for (given, role) in [(source, "source"), (target, "target")] {
            if let given {
                clusters.append(given)
            } else {
                clusters.append(try await PostgresCluster.shared(role))
            }
        }
        var databases: [String] = []
        for cluster in clusters {
            let conninfo = try await cluster.createDatabase(prefix: "preflight")
            databases.append(conninfo.split(separator: "/").last.map { String($0) } ?? "")
        }
        let scene = PreflightScene(
            source: (clusters[0], databases[0]), target: (clusters[1], databases[1]),
            configuration: LinderoConfiguration(
                backend: backend,
                databases: [
                    DatabaseSettings(name: "bot", url: .conninfo("")),
                    DatabaseSettings(name: "sync", url: .conninfo("")),
                ], origin: "bot"))
        if !script.isEmpty {
            try await scene.run(on: .source, script)
            try await scene.run(on: .target, script)
        }
        return scene
    }

    func options(_ side: Side) -> ConnectionOptions {
        switch side {
        case .source: ConnectionOptions(source.cluster.conninfo(database: source.database, user: sourceUser))
        case .target: ConnectionOptions(target.cluster.conninfo(database: target.database, user: targetUser))
        }
    }

    /// As the superuser, with names in `public`.
    func run(on side: Side, _ script: String) async throws {
        let place = side == .source ? source : target
        let connection = try await PostgresConnection.connect(
            ConnectionOptions(place.cluster.conninfo(database: place.database)))
        do {
            let sql = "SET search_path = public; " + script
            if script.contains(" ON PARAMETER ") {
                try await connection.executeOnSharedServer(sql)
            } else {
                _ = try await connection.execute(sql)
            }
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    /// One statement, for those that refuse to stand in a script.
    func runAlone(on side: Side, _ statement: String) async throws {
        let connection = try await PostgresConnection.connect(options(side))
        do {
            _ = try await connection.query(statement)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    func report() async -> PreflightReport {
        await Preflight(
            configuration: configuration, connections: ["bot": options(.source), "sync": options(.target)],
            ownSlots: ownSlots, longTransactionSeconds: longTransactionSeconds, movesServices: movesServices
        ).run()
    }

    func finding(_ code: PreflightFinding.Code) async -> PreflightFinding? {
        await report().findings.first { $0.code == code }
    }

    /// A role of its own, which takes its grants with it when the test is over.
    static func withRole(
        on cluster: PostgresCluster, _ attributes: String, _ body: (String) async throws -> Void
    ) async throws {
        let role = "preflight_" + String(UInt32.random(in: 0...UInt32.max), radix: 36)
        try await cluster.execute("CREATE ROLE \(role) LOGIN \(attributes)")
        do {
            try await body(role)
        } catch {
            _ = try? await cluster.execute("DROP ROLE \(role)")
            throw error
        }
        // Where the test granted something in its database, the role stays with the throwaway cluster.
        _ = try? await cluster.execute("DROP ROLE \(role)")
    }
}
