import ReplicationCore

/// What is wrong with sequences, for people, each with its mend.
public struct SequenceWords: Sendable {
    let origin: String
    let other: String

    public init(origin: String, other: String) {
        self.origin = origin
        self.other = other
    }

    public func problems(_ steps: SequenceSteps) -> [(message: String, fix: String)] {
        var problems: [(message: String, fix: String)] = []
        for step in steps.steps {
            if let problem = step.problem { problems.append(words(problem, step.pair)) }
        }
        for (column, side) in steps.lonely {
            problems.append(
                (
                    "column \"\(column.column)\" of \(column.table) gets its numbers from a sequence, but not on \(side)",
                    "on \(side): ALTER TABLE \(column.table.sql) ALTER COLUMN \(SQLText.identifier(column.column)) ADD GENERATED "
                        + "BY DEFAULT AS IDENTITY;"
                ))
        }
        for name in steps.tangled {
            problems.append(
                (
                    "the columns that sequence \(name) of \(origin) serves have several sequences on \(other), or the other way round",
                    "let the same columns share one sequence on both sides: ALTER TABLE … ALTER COLUMN … SET DEFAULT nextval(…);"
                ))
        }
        for (name, side) in steps.forgotten {
            problems.append(
                (
                    "sequence \(name) of \(side) was shared by Lindero, but no table under tables: leads to it any more",
                    "list its table again, then lindero sequences restore"
                ))
        }
        return problems
    }

    private func words(_ problem: SequenceProblem, _ pair: SequencePair) -> (message: String, fix: String) {
        let columns = pair.columns.map { "\($0.table).\($0.column)" }.joined(separator: ", ")
        switch problem {
        case .cycles(let name):
            return (
                "sequence \(name) of \(columns) begins again at its end, so it gives numbers twice by itself",
                "ALTER SEQUENCE \(name.sql) NO CYCLE; on both sides"
            )
        case .stepsDiffer(let own, let theirs):
            return (
                "the sequences of \(columns) count by \(own) on \(origin) and by \(theirs) on \(other)",
                "on \(other): ALTER SEQUENCE \(pair.other.name.sql) INCREMENT BY \(own);"
            )
        case .exhausted(let name):
            return (
                "sequence \(name) of \(columns) has too few numbers left for two sides",
                "ALTER TABLE … ALTER COLUMN … TYPE bigint; and ALTER SEQUENCE \(name.sql) AS bigint NO MAXVALUE; on both sides"
            )
        }
    }
}
