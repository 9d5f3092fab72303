import ReplicationCore

/// What `verify --repair` would do to a row of a split.
struct RepairPlan {
    /// What would be written, and by whose value.
    var steps: [String] = []
    var obstacles: [RepairObstacle] = []

    var words: String {
        var words = steps.isEmpty ? [] : ["would be " + steps.joined(separator: ", ")]
        if !obstacles.isEmpty { words.append("left to a person: " + obstacles.map(\.description).joined(separator: ", ")) }
        return words.joined(separator: "; ")
    }
}

extension RepairRules {
    func plan(_ difference: RowDifference, _ direction: VerifyDirection) -> RepairPlan {
        switch difference.kind {
        case .changed: plan(columns: difference.columns, direction)
        case .missing: plan(rowOn: .source, direction)
        case .extra: plan(rowOn: .target, direction)
        }
    }

    private func plan(columns: [String], _ direction: VerifyDirection) -> RepairPlan {
        var plan = RepairPlan()
        for name in columns {
            switch column(name) {
            case .side(let side, let reason):
                let other = side == direction.source ? direction.target : direction.source
                plan.steps.append("mended in \(name) on \(other) by \(side)'s value (\(reason.rawValue))")
            case .greater: plan.steps.append("mended in \(name) by the greater value (max)")
            case .smaller: plan.steps.append("mended in \(name) by the smaller value (min)")
            case .undecided(let obstacle): plan.obstacles.append(obstacle)
            }
        }
        return plan
    }

    private func plan(rowOn holder: VerifySide, _ direction: VerifyDirection) -> RepairPlan {
        let (name, other) = (direction.database(holder), direction.database(holder.other))
        return switch row(on: holder) {
        case .insert: RepairPlan(steps: ["inserted on \(other) by \(name)'s row"])
        case .delete: RepairPlan(steps: ["deleted on \(name): \(other) may delete it, and \(name) does not make it"])
        case .undecided(let obstacle): RepairPlan(obstacles: [obstacle])
        }
    }
}
