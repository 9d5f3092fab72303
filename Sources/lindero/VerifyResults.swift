import ReplicationCore
import Replicator

/// What came of comparing one direction, for people and scripts.
struct VerifyResults {
    struct Place: Hashable {
        var table: QualifiedName
        var key: VerifyKey
    }

    var report: VerifyReport
    var direction: VerifyDirection
    /// Differences to list for each table.
    var limit: Int
    var isRepair: Bool
    /// What would become of a row of a split, by table; empty for a replica.
    var rules: [QualifiedName: RepairRules] = [:]
    /// Only when they were asked for.
    var values: [Place: [RowValues.Value]] = [:]
    /// `nil` when nothing was to be mended.
    var outcomes: [Place: RowRepair.Outcome]?

    var listed: [(table: QualifiedName, difference: RowDifference)] {
        report.tables.flatMap { table in table.differences.prefix(limit).map { (table.table, $0) } }
    }

    var mended: Int { outcomes?.values.count { $0 == .mended || $0 == .equal } ?? 0 }
    var isMended: Bool { report.differenceCount > 0 && mended == report.differenceCount }

    /// Each key column with its value.
    func key(_ difference: RowDifference, of table: QualifiedName) -> [(String, String)] {
        Array(zip(report.compared[table]?.key.map(\.name) ?? [], difference.key.values))
    }
}

// MARK: for people

extension VerifyResults {
    var lines: [String] {
        var table = TextTable(["table", "rows", "rechecked", "differences", "undecided", "up to"])
        for row in report.tables {
            table.add([
                "\(row.table)", PlainText.count(row.rows), PlainText.count(row.rechecked), PlainText.count(row.differenceCount),
                PlainText.count(row.undecided), "\(row.sourceLSN)",
            ])
        }
        var lines = report.tables.isEmpty ? [] : table.lines
        for skipped in report.skipped { lines.append("not compared: \(skipped.table): \(skipped.reason)") }
        for (table, difference) in listed { lines += self.lines(table, difference) }
        let unlisted = report.differenceCount - listed.count
        if unlisted > 0 { lines.append("… and \(PlainText.count(unlisted)) more") }
        if isUndecided {
            lines.append(
                "What is left to a person: look at it with --show-values; --take \(direction.source) or --take \(direction.target) lets "
                    + "that side stand, TABLE before it bounds where.")
        }
        return lines + ["\(report.direction): \(summary)"]
    }

    private func lines(_ table: QualifiedName, _ difference: RowDifference) -> [String] {
        let key = key(difference, of: table).map { "\($0.0) = \($0.1)" }.joined(separator: ", ")
        let place = Place(table: table, key: difference.key)
        var line = "\(table) (\(key)): "
        switch difference.kind {
        case .changed: line += "differs in \(difference.columns.joined(separator: ", "))"
        case .missing: line += "is on \(direction.source) alone"
        case .extra: line += "is on \(direction.target) alone"
        }
        if isRepair { line += "; " + repair(difference, of: table) }
        let values = values[place] ?? []
        return [line]
            + values.map {
                "    \($0.column): \(direction.source) \(Self.text($0.source)), \(direction.target) \(Self.text($0.target))"
            }
    }

    /// What became of it, or would.
    private func repair(_ difference: RowDifference, of table: QualifiedName) -> String {
        if let outcome = outcomes?[Place(table: table, key: difference.key)] { return Self.words(outcome) }
        return rules[table].map { $0.plan(difference, direction).words } ?? Self.plan(difference)
    }

    /// What a person has to decide.
    private var isUndecided: Bool {
        if let outcomes {
            return outcomes.values.contains { outcome in
                if case .undecided(let obstacles, _) = outcome { obstacles.contains(where: \.isForAPerson) } else { false }
            }
        }
        return isRepair
            && listed.contains { table, difference in
                rules[table]?.plan(difference, direction).obstacles.contains(where: \.isForAPerson) ?? false
            }
    }

    private static func text(_ value: String?) -> String { value.map { JSONValue.text($0).line } ?? "NULL" }

    private static func plan(_ difference: RowDifference) -> String {
        switch difference.kind {
        case .changed: "would be updated"
        case .missing: "would be inserted"
        case .extra: "would be deleted"
        }
    }

    private static func words(_ outcome: RowRepair.Outcome) -> String {
        switch outcome {
        case .mended: "mended"
        case .equal: "equal by now"
        case .busy: "not mended: it is written all the time"
        case .refused(let reason): "not mended: \(reason)"
        case .undecided(let obstacles, let mended):
            (mended.isEmpty ? "not mended" : "mended in \(mended.joined(separator: ", "))")
                + "; left to a person: " + obstacles.map(\.description).joined(separator: "; ")
        }
    }

    private var summary: String {
        let rows = PlainText.count(report.tables.reduce(0) { $0 + $1.rows })
        var text =
            report.differenceCount == 0
            ? "\(rows) rows compared, no differences" : "\(rows) rows compared, \(PlainText.count(report.differenceCount)) differ"
        if report.undecided > 0 { text += ", \(PlainText.count(report.undecided)) were written too often to be compared" }
        if !report.skipped.isEmpty { text += ", \(PlainText.count(report.skipped.count, "table")) not compared" }
        if outcomes != nil { text += ", \(PlainText.count(mended)) mended" }
        return text + "."
    }
}

// MARK: for scripts

extension VerifyResults {
    var tableDocuments: [JSONValue] {
        report.tables.map { row in
            .object([
                ("table", .text("\(row.table)")), ("direction", .text(report.direction)), ("rows", .optional(row.rows)),
                ("differences", .optional(row.differenceCount)), ("rechecked", .optional(row.rechecked)),
                ("undecided", .optional(row.undecided)), ("sourceLsn", .text("\(row.sourceLSN)")),
                ("details", .array(row.differences.prefix(limit).map { document(row.table, $0) })),
            ])
        }
    }

    private func document(_ table: QualifiedName, _ difference: RowDifference) -> JSONValue {
        let place = Place(table: table, key: difference.key)
        var entries: [(String, JSONValue)] = [
            ("key", .object(key(difference, of: table).map { ($0.0, .text($0.1)) })),
            ("kind", .text(difference.kind.rawValue)), ("columns", .texts(difference.columns)),
        ]
        if let values = values[place] {
            entries.append(
                ("values", .object(values.map { value in
                    (value.column, .object([("source", .optional(value.source)), ("target", .optional(value.target))]))
                })))
        }
        if isRepair { entries.append(("repair", .text(repair(difference, of: table)))) }
        return .object(entries)
    }

    var skippedDocuments: [JSONValue] {
        report.skipped.map { .object([("table", .text("\($0.table)")), ("reason", .text("\($0.reason)"))]) }
    }
}

extension [VerifyResults] {
    var lines: [String] { flatMap(\.lines) }

    var json: JSONValue {
        .object([
            ("tables", .array(flatMap(\.tableDocuments))),
            ("differences", .optional(reduce(0) { $0 + $1.report.differenceCount })),
            ("undecided", .optional(reduce(0) { $0 + $1.report.undecided })),
            ("skipped", .array(flatMap(\.skippedDocuments))),
            ("mended", contains { $0.outcomes != nil } ? .optional(reduce(0) { $0 + $1.mended }) : .null),
        ])
    }

    /// `nil` when all is equal.
    var exit: LinderoExit? {
        if contains(where: { $0.report.differenceCount > 0 && !$0.isMended }) { return .found }
        if contains(where: { !$0.report.skipped.isEmpty }) { return .blocked }
        return contains { $0.report.undecided > 0 } ? .failed : nil
    }

    /// - Parameter command: what was asked for, without `--execute`.
    func next(_ command: String, isRepair: Bool) -> String {
        switch exit {
        case .found where isRepair && contains(where: { $0.outcomes != nil }): "lindero verify"
        case .found: isRepair ? command + " --execute" : command + " --repair"
        case .blocked: "lindero check"
        case .failed: "lindero verify"
        default: contains { $0.outcomes != nil } ? "lindero verify" : "lindero status"
        }
    }
}
