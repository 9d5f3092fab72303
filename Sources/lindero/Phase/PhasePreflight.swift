import PostgresClient
import ReplicationCore
import Replicator

/// `lindero check` for the phase to come.
struct PhasePreflight: Sendable {
    let loaded: LoadedConfiguration
    let to: Phase

    func run() async -> PreflightReport {
        let ahead = loaded.running(WorkerMode(to))
        var connections: [String: ConnectionOptions] = [:]
        for database in (try? ahead.databases()) ?? [] { connections[database.name] = database.options }
        let plan = try? await WorkerPlan.make(ahead)
        let slots = Set(plan?.tasks.flatMap(\.directions).map(\.slot) ?? [])
        let report = await Preflight(
            configuration: ahead.configuration, connections: connections, ownSlots: slots, movesServices: to == .split
        ).run()
        var findings = moving(ahead.configuration) + report.findings
        if let origin = try? ahead.origin() { findings += await workerRole(origin) }
        return PreflightReport(findings: findings)
    }
}

extension PhasePreflight {
    /// What only moving a service needs.
    private func moving(_ configuration: LinderoConfiguration) -> [PreflightFinding] {
        guard to == .split else { return [] }
        var findings = configuration.others.filter(\.roles.isEmpty).map {
            PreflightFinding(
                .blocker, .roles, database: $0.name, "databases.\($0.name).roles is empty: nobody could tell when its service has moved",
                fix: "databases: { \($0.name): { roles: [the role that the service logs in with] } }")
        }
        if configuration.replication.twoPhase {
            findings.append(
                PreflightFinding(.blocker, .twoPhase, "two_phase: true goes with a replica, not with a split", fix: "replication: { two_phase: false }"))
        }
        let owners = Dictionary(grouping: configuration.databases.flatMap { database in database.roles.map { ($0, database.name) } }, by: \.0)
        for (role, places) in owners.sorted(by: { $0.key < $1.key }) where Set(places.map(\.1)).count > 1 {
            findings.append(
                PreflightFinding(
                    .blocker, .roles, "role \(role) stands under \(Set(places.map(\.1)).sorted().joined(separator: " and ")): a service that moves could not be told from the other",
                    fix: "give each service a role of its own"))
        }
        let cutover = configuration.cutover
        if cutover.fence == .strict, cutover.bouncer == nil, cutover.command.isEmpty {
            findings.append(
                PreflightFinding(
                    .blocker, .roles, "cutover.fence: strict would keep every writer waiting until a person has moved the service",
                    fix: "cutover: { pgbouncer: … } or { command: [ … ] }; or fence: none"))
        }
        return findings
    }

    /// Rights were looked at with this command's role; the worker may have another one.
    private func workerRole(_ origin: Database) async -> [PreflightFinding] {
        let roles = try? await origin.connected { try await PhaseLocks(connection: $0).otherWorkerRoles() }
        let services = Set(to == .split ? loaded.configuration.databases.flatMap(\.roles) : [])
        return (roles ?? []).map { role in
            let fix = "run lindero advance with the worker's own connection strings"
            // Its sessions could not be told from the service's.
            if services.contains(role) {
                return PreflightFinding(
                    .blocker, .roles, database: origin.name,
                    "the worker connects as \(role), a service's role, and this command as another one: whether the service has moved could not be told",
                    fix: fix)
            }
            return PreflightFinding(
                .warning, .roles, database: origin.name, "the worker connects as \(role), and this command as another role: rights were checked for this one",
                fix: fix)
        }
    }
}

extension PreflightReport {
    /// The blockers as one failure; `nil` when nothing blocks.
    func failure(_ loaded: LoadedConfiguration) -> CommandFailure? {
        guard let first = blockers.first else { return nil }
        let messages = blockers.map { ($0.database.map { "\($0): " } ?? "") + $0.message }
        let fix = blockers.count == 1 ? first.fix : nil
        return CommandFailure(
            first.code.rawValue, messages.joined(separator: "\n"), place: loaded.path,
            nextStep: fix ?? "Mend them (`lindero advance` lists each with its fix), then run the same command again.", exit: .blocked)
    }
}
