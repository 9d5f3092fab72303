import ArgumentParser
import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

struct CheckCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "List everything that stands in the way, each with its fix; change nothing.",
        discussion: """
            Looks at the configuration, the servers, the tables and the privileges. Exits with 2 when something \
            blocks, with 0 when nothing does; warnings and notes block nothing.

            Examples:
              lindero check
              lindero check --json
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        var connections: [String: ConnectionOptions] = [:]
        for database in try loaded.databases() { connections[database.name] = database.options }
        let tasks = await tasks(loaded)
        let directions = tasks.flatMap(\.directions)
        let preflight = Preflight(
            configuration: loaded.configuration, connections: connections, ownSlots: Set(directions.map(\.slot)))
        var findings = await preflight.run().findings + (await guardFindings(loaded))
        for direction in directions {
            findings += await ResumePreflight(settings: direction).findings() + CopyPreflight(settings: direction).findings()
        }
        for case .split(let settings) in tasks { findings += await SplitResumePreflight(settings: settings).findings() }
        let report = PreflightReport(findings: findings)
        answer(
            .object([
                ("blocked", .bool(report.isBlocked)),
                ("findings", .array(report.findings.map { json($0, path: loaded.path) })),
            ]),
            lines: report.findings.map { text($0, path: loaded.path) } + summary(report))
        if report.isBlocked { throw ExitCode(LinderoExit.blocked.rawValue) }
    }

    /// Whether a guard that is on still is what it should be. What keeps this from being read, the preflight tells.
    private func guardFindings(_ loaded: LoadedConfiguration) async -> [PreflightFinding] {
        guard let origin = try? loaded.origin() else { return [] }
        let review = try? await origin.connected { connection in
            try await GuardCommand.review(
                connection: connection, policy: try await loaded.ownership(connection), configuration: loaded.configuration)
        }
        guard let review else { return [] }
        var findings = review.notices.map { PreflightFinding(.warning, .guardNotice, database: origin.name, $0, fix: "as it says; lindero guard plan tells all that the guard would do") }
        if let drift = review.drift {
            let fix = review.problems.isEmpty ? "lindero guard plan, then lindero guard apply" : "lindero guard plan"
            findings.append(
                PreflightFinding(
                    .warning, .guardDrift, database: origin.name, drift,
                    fix: "\(fix) --mode \(review.mode?.rawValue ?? "enforce")"))
        }
        return findings
    }

    /// What a worker would keep running: slots of ours that exist already need no free place. Without a connection there
    /// are none to name; the report says that it cannot connect.
    private func tasks(_ loaded: LoadedConfiguration) async -> [WorkerPlan.Task] {
        (try? await WorkerPlan.make(loaded))?.tasks ?? []
    }

    private func json(_ finding: PreflightFinding, path: String) -> JSONValue {
        .object([
            ("severity", .text(finding.severity.rawValue)), ("code", .text(finding.code.rawValue)),
            ("database", .optional(finding.database)), ("object", .optional(finding.object)),
            ("message", .text(finding.message)), ("fix", .optional(finding.fix)),
            ("file", .optional(finding.mark.map { "\(path):\($0.line):\($0.column)" })),
        ])
    }

    private func text(_ finding: PreflightFinding, path: String) -> String {
        guard let mark = finding.mark else { return finding.description }
        return "\(finding.description)\n    at: \(path):\(mark.line):\(mark.column)"
    }

    private func summary(_ report: PreflightReport) -> [String] {
        let counts = PreflightFinding.Severity.allCases.map { severity in
            let count = report.findings.count { $0.severity == severity }
            return PlainText.count(count, severity.rawValue)
        }
        let next = report.isBlocked ? "mend the blockers, then lindero check" : "lindero run"
        return ["Found \(counts.joined(separator: ", ")).", "Next: \(next)"]
    }
}
