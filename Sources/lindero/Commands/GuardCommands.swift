import ArgumentParser
import PostgresClient
import ReplicationCore
import SharedBackend

struct GuardGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "guard", abstract: "Column ownership in the database itself: plan, apply, remove.",
        discussion: """
            enforce: PostgreSQL refuses a service's write to a column it does not own.
            audit: the write passes and is recorded; see lindero audit.

            Example:
              lindero guard plan --mode enforce
              lindero guard apply --mode enforce
              lindero guard remove
            """,
        subcommands: [GuardPlanCommand.self, GuardApplyCommand.self, GuardRemoveCommand.self])
}

extension GuardMode: ExpressibleByArgument {}

struct GuardPlanCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Print the exact SQL that apply would run; change nothing.",
        discussion: """
            Example:
              lindero guard plan --mode audit > guard.sql
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "enforce or audit.")
    var mode = GuardMode.enforce

    @Flag(help: "Plan the removal.")
    var remove = false

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let (plan, isMigrated) = try await loaded.origin().connected { connection in
            // Who may not look is told by `apply`.
            let isMigrated = (try? await connection.hasLindero("migration")) ?? true
            if remove { return (try await GuardCommand.planRemoval(connection: connection), isMigrated) }
            let plan = try await GuardCommand.plan(
                connection: connection, policy: try await loaded.ownership(connection),
                configuration: loaded.configuration, mode: mode)
            return (plan, isMigrated)
        }
        let report = GuardReport(plan: plan, isApplied: false)
        var next = remove ? "lindero guard remove" : "lindero guard apply --mode \(mode.rawValue)"
        if !remove, !isMigrated { next = "lindero migrate, then " + next }
        if !plan.problems.isEmpty { next = "mend the problems above, then lindero guard plan" }
        answer(report.json, lines: report.scriptLines + ["-- Next: \(next)"])
        if !plan.problems.isEmpty { throw ExitCode(LinderoExit.blocked.rawValue) }
    }
}

struct GuardApplyCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Put column ownership into the database, in one transaction.",
        discussion: """
            Running it again changes nothing; another mode replaces the one before.

            Example:
              lindero guard apply --mode enforce
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "enforce or audit.")
    var mode = GuardMode.enforce

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let plan = try await loaded.origin().connected { connection in
            try await GuardCommand.apply(
                connection: connection, policy: try await loaded.ownership(connection),
                configuration: loaded.configuration, mode: mode)
        }
        let next = mode == .audit ? "lindero audit" : "lindero guard plan --remove"
        let report = GuardReport(plan: plan, isApplied: true)
        answer(report.json, lines: report.summaryLines + ["Next: \(next)"])
    }
}

struct GuardRemoveCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Restore every grant to what it was before the guard.",
        discussion: """
            What others changed since is kept and named. What the audit recorded stays.

            Example:
              lindero guard remove
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let origin = try LoadedConfiguration.load(global).origin()
        let plan = try await origin.connected { try await GuardCommand.remove(connection: $0) }
        let report = GuardReport(plan: plan, isApplied: true)
        answer(report.json, lines: report.summaryLines + ["Next: lindero guard plan"])
    }
}

/// A plan as the commands print it.
private struct GuardReport {
    var plan: GuardPlan
    var isApplied: Bool

    var json: JSONValue {
        .object([
            ("mode", .optional(plan.mode?.rawValue)), ("applied", .bool(isApplied)),
            (
                "tables",
                .array(
                    plan.changes.map { change in
                        .object([("table", .text("\(change.table)")), ("sql", .texts(change.statements))])
                    })
            ),
            ("problems", .texts(plan.problems.map(\.description))), ("notices", .texts(plan.notices)),
        ])
    }

    /// A script that psql could run: everything else is a comment.
    var scriptLines: [String] {
        comments("problem", plan.problems.map(\.description)) + comments("notice", plan.notices)
            + [String(plan.script.trimmingSuffix { $0.isNewline })]
    }

    var summaryLines: [String] {
        let done =
            switch plan.mode {
            case _ where plan.isEmpty: "The database already is as wanted; nothing was changed."
            case nil: "Removed the guard of \(plan.tableCount) tables."
            case .enforce?: "\(plan.tableCount) tables are guarded: PostgreSQL refuses writes to foreign columns."
            case .audit?: "\(plan.tableCount) tables are audited: writes to foreign columns are recorded."
            }
        return [done] + plan.notices.map { "notice: \($0)" }
    }

    private func comments(_ word: String, _ texts: [String]) -> [String] {
        texts.flatMap { text in text.split(separator: "\n").map { "-- \(word): \($0)" } }
    }
}

extension StringProtocol {
    fileprivate func trimmingSuffix(while matches: (Character) -> Bool) -> SubSequence {
        var end = endIndex
        while end > startIndex, matches(self[index(before: end)]) { end = index(before: end) }
        return self[..<end]
    }
}
