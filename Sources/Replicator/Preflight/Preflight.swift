import PostgresClient
import ReplicationCore

/// `lindero check`: looks at every database of the configuration and says what stands in the way, with the remedy.
/// It changes nothing.
public struct Preflight: Sendable {
    private let configuration: LinderoConfiguration
    private let connections: [String: ConnectionOptions]
    private let ownSlots: Set<String>
    private let longTransactionSeconds: Int
    private let movesServices: Bool

    /// - Parameters:
    ///   - connections: how to reach each database, by its name in the configuration.
    ///   - ownSlots: names Lindero gives to its slots; those that exist already need no free place.
    ///   - longTransactionSeconds: writing transactions open for longer are named.
    ///   - movesServices: whether services are about to move between the databases of a split: then both sides must be able to
    ///     take everything, and what Lindero sees to on the way is nothing to mend.
    public init(
        configuration: LinderoConfiguration, connections: [String: ConnectionOptions],
        ownSlots: Set<String> = [],
        longTransactionSeconds: Int = 60, movesServices: Bool = false
    ) {
        self.configuration = configuration
        self.connections = connections
        self.ownSlots = ownSlots
        self.longTransactionSeconds = longTransactionSeconds
        self.movesServices = movesServices && configuration.backend == .split
    }

    /// Never throws: what can't be reached or read is a finding as well.
    public func run() async -> PreflightReport {
        var findings: [PreflightFinding] = []
        var sides: [String: PreflightSide] = [:]
        for database in configuration.databases where connections[database.name] != nil {
            do throws(PreflightFailure) {
                sides[database.name] = try await open(database)
            } catch {
                findings += error.findings
            }
        }
        findings += await check(sides)
        findings += spillFolder()
        for side in sides.values { await side.connection.close() }
        return PreflightReport(findings: findings)
    }

    private func check(_ sides: [String: PreflightSide]) async -> [PreflightFinding] {
        var findings = sides.values.sorted { $0.name < $1.name }.flatMap { serverChecks($0).roles() }
        guard let origin = sides[configuration.origin] else { return findings }
        findings += await prisma(origin)
        let tables: [TableDescription]
        let policy: OwnershipPolicy
        do {
            let names = try await CatalogReader.names(origin.connection)
            let selected = OwnershipPolicy.selectedNames(configuration, among: names)
            tables = try await CatalogReader.tables(origin.connection, matching: selected)
            policy = try OwnershipPolicy.resolve(configuration, tables: tables, otherNames: names)
        } catch let error as OwnershipError {
            return findings + serverChecks(origin).source() + ownership(error, of: origin.name)
        } catch {
            return findings + [failed(origin.name, error)]
        }
        let replicated = tables.filter { policy.tables[$0.name] != nil }
        for direction in directions(sides) {
            let pass = DirectionPreflight(
                configuration: configuration, policy: movesServices ? inTransition(policy) : policy, source: direction.source,
                target: direction.target)
            findings += serverChecks(direction.source).source()
            do {
                findings += try await pass.findings(originTables: replicated, isOrigin: direction.isForward)
            } catch {
                findings.append(failed(direction.target?.name ?? direction.source.name, error))
            }
            if let target = direction.target, !isStandby(target.name) {
                findings += serverChecks(target).target()
            }
        }
        findings += await split(origin, sides, policy)
        for direction in directions(sides) where direction.isForward {
            findings = await withoutUnfinished(findings, direction, policy)
        }
        return findings
    }

    /// Without the keys that tables of an unfinished copy have yet to get.
    private func withoutUnfinished(
        _ findings: [PreflightFinding], _ direction: Direction, _ policy: OwnershipPolicy
    ) async -> [PreflightFinding] {
        guard let target = direction.target else { return findings }
        let pass = DirectionPreflight(configuration: configuration, policy: policy, source: direction.source, target: target)
        guard let unfinished = try? await pass.unfinished(target), !unfinished.isEmpty else { return findings }
        return findings.filter { finding in
            guard finding.database == target.name, [.replicaIdentity, .replicaIdentityFull, .matchKey].contains(finding.code),
                let object = finding.object
            else { return true }
            // The longest: a column of one table may be called like a table of a schema.
            let table = policy.tables.keys.filter { object == $0.description || object.hasPrefix("\($0.description).") }
                .max { $0.description.count < $1.description.count }
            return table.map { !unfinished.contains($0.sql) } ?? true
        }
    }

    private func inTransition(_ policy: OwnershipPolicy) -> OwnershipPolicy {
        let other = configuration.others.first
        return other.map { policy.inTransition(origin: configuration.origin, other: $0.name) } ?? policy
    }

    private func prisma(_ origin: PreflightSide) async -> [PreflightFinding] {
        do {
            return try await PrismaChecks.read(origin, backend: configuration.backend).findings()
        } catch {
            return [failed(origin.name, error)]
        }
    }

    /// What both sides of a split can do together; with one of them alone there is nothing to say.
    private func split(
        _ origin: PreflightSide, _ sides: [String: PreflightSide], _ policy: OwnershipPolicy
    ) async -> [PreflightFinding] {
        let others = configuration.others
        guard configuration.backend == .split, let other = others.first.flatMap({ sides[$0.name] }) else { return [] }
        do {
            return try await SplitPreflight(
                configuration: configuration, policy: policy, origin: origin, other: other, movesServices: movesServices
            ).findings()
        } catch {
            return [failed(other.name, error)]
        }
    }

    private struct Direction {
        var source: PreflightSide
        /// `nil` when nothing is copied anywhere.
        var target: PreflightSide?
        var isForward: Bool
    }

    private func directions(_ sides: [String: PreflightSide]) -> [Direction] {
        guard let origin = sides[configuration.origin] else { return [] }
        let others = configuration.databases.compactMap { $0.name == origin.name ? nil : sides[$0.name] }
        switch configuration.backend {
        case .shared: return [Direction(source: origin, target: nil, isForward: true)]
        case .replica: return others.map { Direction(source: origin, target: $0, isForward: true) }
        case .split:
            return others.flatMap { other in
                [
                    Direction(source: origin, target: other, isForward: true),
                    Direction(source: other, target: origin, isForward: false),
                ]
            }
        }
    }

    private func spillFolder() -> [PreflightFinding] {
        let replication = configuration.replication
        let isSplit = configuration.backend == .split
        guard isSplit || configuration.backend == .replica && replication.streaming == .on else { return [] }
        let base = replication.spillDirectory ?? SpillFolder.defaultBase
        guard let obstacle = SpillFolder.obstacle(base) else { return [] }
        return [
            PreflightFinding(
                obstacle.isForAll ? .blocker : .warning, .spillFolder, object: base,
                "\(isSplit ? "what does not fit in memory" : "transactions that still run") can't wait in spill_dir, which is \(base): "
                    + "it \(obstacle.words)",
                fix: "name a folder under replication.spill_dir that the worker's user owns and nobody else may write to"
                    + (isSplit ? "" : "; or streaming: off"))
        ]
    }

    private func isStandby(_ name: String) -> Bool { configuration.database(name)?.isPhysicalStandby == true }

    private func open(_ database: DatabaseSettings) async throws(PreflightFailure) -> PreflightSide {
        guard let options = connections[database.name] else { throw PreflightFailure(findings: []) }
        let connection: PostgresConnection
        do {
            connection = try await PostgresConnection.connect(options)
        } catch {
            throw PreflightFailure(
                findings: [
                    PreflightFinding(
                        .blocker, .connection, database: database.name,
                        "can't connect to \(options): \(error)",
                        fix:
                            "try the same address with psql; databases.\(database.name).url says where it comes from"
                    )
                ])
        }
        do {
            let facts = try await ServerFactsReader.server(
                connection, publication: configuration.replication.publication, roles: database.roles)
            let side = PreflightSide(name: database.name, connection: connection, facts: facts)
            let tooOld = serverChecks(side).version()
            if tooOld.isEmpty { return side }
            await connection.close()
            throw PreflightFailure(findings: tooOld)
        } catch let failure as PreflightFailure {
            throw failure
        } catch {
            await connection.close()
            throw PreflightFailure(findings: [failed(database.name, error)])
        }
    }

    private func serverChecks(_ side: PreflightSide) -> ServerChecks {
        ServerChecks(
            database: side.name, facts: side.facts, configuration: configuration, ownSlots: ownSlots,
            longTransactionSeconds: longTransactionSeconds)
    }

    private func ownership(_ error: OwnershipError, of database: String) -> [PreflightFinding] {
        error.problems.map { problem in
            let hint = problem.suggestion.map { " (did you mean \"\($0)\"?)" } ?? ""
            return PreflightFinding(
                .blocker, .ownership, database: database, problem.message + hint, fix: fix(problem), mark: problem.mark)
        }
    }

    private func fix(_ problem: OwnershipProblem) -> String {
        if let suggestion = problem.suggestion { return "write \"\(suggestion)\" there, if that is meant" }
        switch problem.kind {
        case .unowned(let columns, let table):
            let place = "tables.\(TablePattern.text(for: table)).columns"
            return "\(place): { \(configuration.origin): [\(columns.joined(separator: ", "))] } (or the other side, or shared:); "
                + "or defaults: { unlisted_column: origin }"
        case .matchIsNotUnique(let columns, let table, _):
            return "CREATE UNIQUE INDEX ON \(table.sql) (\(SQLText.list(columns))); or name one of its keys under match:"
        default: return "correct it in lindero.yaml"
        }
    }

    private func failed(_ database: String, _ error: any Error) -> PreflightFinding {
        PreflightFinding(.blocker, .checkFailed, database: database, "the check could not finish: \(error)",
            fix: "connect there with psql as the same role to see what it may not read, then lindero check")
    }
}

/// One database, reached and read.
struct PreflightSide: Sendable {
    var name: String
    var connection: PostgresConnection
    var facts: ServerFacts
}

/// Why a database can't be looked at any further.
struct PreflightFailure: Error {
    var findings: [PreflightFinding]
}
