import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

/// What is left in every database of a configuration, read anew.
struct DecommissionScene: Sendable {
    var decommission: Decommission
    /// Addresses, by name.
    var databases: [String: Database]
    /// Databases that can't be reached and may be the origin.
    var passedOver: [String]
    /// Why columns, roles and identities can't be told; `nil` when they can.
    var policyProblem: String?

    static func read(_ loaded: LoadedConfiguration) async throws -> DecommissionScene {
        let places = try await SeparateDatabases.read(loaded)
        let origin = try loaded.origin()
        let state = loaded.phase ?? PhaseState(phase: loaded.configuration.backend)
        var policy: OwnershipPolicy?
        var problem: String?
        do {
            policy = try await origin.connected { try await loaded.policy($0) }
        } catch let failure as CommandFailure where failure.code == "configuration" || failure.code == "ownership" {
            problem = failure.message
        }
        let workers = try await origin.connected { try await PhaseLocks(connection: $0).running() }
        var remains: [DatabaseRemains] = []
        var known: [String: Set<String>] = [:]
        let names = places.databases.map(\.name)
        for database in places.databases {
            let tables = policy?.tables.keys.sorted() ?? []
            let (found, slots) = try await database.connected { connection in
                let roles = loaded.configuration.foreignRoles(of: database.name)
                var found = try await RemnantReader(connection: connection, database: database.name)
                    .read(keeping: loaded.namedObjects, tables: tables, foreignRoles: roles)
                if let state = try await GuardCommand.state(connection: connection) {
                    let plan = try await GuardCommand.planRemoval(connection: connection)
                    found.guarded = DatabaseRemains.Guarded(
                        mode: state.mode.rawValue, tableCount: state.tables.count, sql: plan.statements)
                }
                return (found, try await slotNames(connection, database.name, names))
            }
            remains.append(found)
            known[database.name] = slots
        }
        let decommission = Decommission(
            state: state, workers: workers, configuration: loaded.configuration, policy: policy,
            directions: try await directions(loaded, state), knownNames: known, databases: remains)
        return DecommissionScene(
            decommission: decommission, databases: Dictionary(places.databases.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }),
            passedOver: places.passedOver, policyProblem: problem)
    }

    /// Slots and publications that Lindero may have on a database in some phase.
    private static func slotNames(_ connection: PostgresConnection, _ name: String, _ names: [String]) async throws -> Set<String> {
        var known: Set<String> = []
        for purpose in ["feed"] + names.filter({ $0 != name }) { known.insert(try await SlotName.make(connection, purpose: purpose)) }
        return known
    }

    /// What the worker of the phase runs.
    private static func directions(_ loaded: LoadedConfiguration, _ state: PhaseState) async throws -> [Decommission.Direction] {
        guard state.worker != .nothing else { return [] }
        var directions: [Decommission.Direction] = []
        for direction in try await LagDirection.all(loaded) {
            let target: String?
            switch direction.kind {
            case .feed: target = nil
            case .replica(let database): target = database.name
            case .standby: continue
            }
            let isOrigins = direction.source.name == loaded.configuration.origin
            let named = isOrigins ? loaded.configuration.replication.publication : nil
            let own = try await direction.source.connected { try await SlotName.make($0, purpose: target ?? "feed") }
            directions.append(
                Decommission.Direction(source: direction.source.name, target: target, slot: direction.slot ?? own, publication: named ?? own))
        }
        return directions
    }
}

extension LinderoConfiguration {
    /// Roles of other databases' services that are not this one's, too.
    func foreignRoles(of name: String) -> [String] {
        let own = Set(database(name)?.roles ?? [])
        return Set(databases.filter { $0.name != name }.flatMap(\.roles)).subtracting(own).sorted()
    }
}
