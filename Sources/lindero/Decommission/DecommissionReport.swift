import ReplicationCore

/// What is left, for people and scripts.
struct DecommissionReport {
    /// Longer scripts are in the JSON document alone.
    static let shownLines = 6

    let scene: DecommissionScene
    /// A database's name and address.
    let database: (String) -> String

    private var decommission: Decommission { scene.decommission }

    var json: JSONValue {
        .object([
            ("phase", .text(decommission.phase.rawValue)), ("moving", .bool(decommission.isMoving)),
            ("workers", .texts(decommission.workers.map(\.rawValue))), ("passedOver", .texts(scene.passedOver)),
            ("problem", .optional(scene.policyProblem)),
            (
                "remnants",
                .array(
                    decommission.remnants.map { remnant in
                        let refusal = decommission.refusal(remnant)
                        return .object([
                            ("name", .text(remnant.name)), ("database", .text(remnant.database)), ("kind", .text(remnant.kind.rawValue)),
                            ("object", .text(remnant.object)), ("what", .text(remnant.words)), ("needed", .bool(remnant.need != nil)),
                            ("neededBy", .optional(remnant.need)), ("inUse", .bool(remnant.use != nil)),
                            ("retainedWalBytes", .optional(remnant.retainedWALBytes)), ("cost", .optional(cost(remnant))),
                            ("removable", .bool(refusal == nil)), ("because", .optional(refusal)), ("sql", .texts(remnant.sql)),
                        ])
                    })
            ),
        ])
    }

    var lines: [String] {
        var lines: [String] = []
        let remnants = decommission.remnants
        for remains in decommission.databases {
            lines.append(database(remains.database))
            let here = remnants.filter { $0.database == remains.database }
            if here.isEmpty { lines.append("  nothing of Lindero") }
            for remnant in here { lines += self.lines(remnant) }
        }
        lines += scene.passedOver.map { "\($0) can't be reached; nothing says that it is another database than the origin's" }
        if let problem = scene.policyProblem {
            lines.append("Columns, roles and identities are not listed, since lindero.yaml does not fit the tables: \(problem)")
        }
        guard let first = remnants.first(where: { decommission.refusal($0) == nil && $0.need == nil }) ?? remnants.first else {
            return lines + ["Next: nothing is left to remove"]
        }
        return lines + ["Next: lindero decommission --remove '\(first.name)', or lindero migrate --down for everything but columns and privileges"]
    }

    private func lines(_ remnant: Remnant) -> [String] {
        var lines = ["  \(remnant.name)", "      \(remnant.words)"]
        lines.append("      " + (remnant.need.map { "needed by \($0)" } ?? "not needed in phase \(decommission.phase.rawValue)"))
        if let cost = cost(remnant) { lines[2] += "; \(cost)" }
        if let refusal = decommission.refusal(remnant) { lines.append("      not now: \(refusal)") }
        let sql = remnant.sql.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: true) }
        if sql.count > Self.shownLines {
            lines.append("      \(sql[0]) … (\(sql.count) lines, all of them with --json)")
        } else {
            lines += sql.map { "      \($0)" }
        }
        return lines
    }

    private func cost(_ remnant: Remnant) -> String? {
        if let bytes = remnant.retainedWALBytes { return "keeps \(PlainText.bytes(bytes)) of WAL" }
        return remnant.cost
    }
}
