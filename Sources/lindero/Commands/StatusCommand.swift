import ArgumentParser

struct StatusCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Databases, directions, slots, gates and guard at a glance.",
        discussion: """
            Reads the databases only, so it works with and without a running worker. The gates are the limits under \
            gates: in lindero.yaml.

            Examples:
              lindero status
              lindero status --json
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let report = try await StatusReport.read(try await LoadedConfiguration.current(global))
        answer(report.json, lines: report.lines + ["Next: \(next(report))"])
        if report.problem != nil { throw ExitCode(LinderoExit.failed.rawValue) }
    }

    private func next(_ report: StatusReport) -> String {
        if report.databases.contains(where: { $0.problem != nil }) { return "lindero check" }
        if let review = report.guardReview, review.drift != nil {
            return review.problems.isEmpty ? "lindero guard apply --mode \(review.mode?.rawValue ?? "enforce")" : "lindero guard plan"
        }
        if report.quarantine.contains(where: { $0.openCount > 0 }) { return "lindero quarantine list" }
        if report.conflicts.contains(where: { $0.openCount > 0 }) { return "lindero conflicts list" }
        let next = LagCommand.next(report.directions)
        return next == "lindero status" ? "lindero lag --watch" : next
    }
}
