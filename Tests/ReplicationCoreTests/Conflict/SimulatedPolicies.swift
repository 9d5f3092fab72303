@testable import ReplicationCore

/// The policies of the shared columns of a simulation, and where in both logs each began.
struct SimulatedPolicies {
    struct Term {
        var rule: SharedColumnRule
        var start: [LSN]
    }

    /// By column; the last one is in force.
    private(set) var terms: [Int: [Term]] = [:]

    init() {
        for column in SimulatedRow.firstShared..<SimulatedRow.width {
            guard case .shared(let rule)? = SimulatedRow.ownership.columns[SimulatedRow.name(column)] else { continue }
            terms[column] = [Term(rule: rule, start: [.zero, .zero])]
        }
    }

    /// Gives a column another policy from here on.
    mutating func change(_ column: Int, to rule: SharedColumnRule, at start: [LSN]) {
        terms[column]?.append(Term(rule: rule, start: start))
    }

    /// Two writes of a column, one of each side, have the rule of the one that came later.
    func rule(_ column: Int, _ commits: [LSN]) -> SharedColumnRule? {
        terms[column]?.last { term in (0..<2).contains { commits[$0] >= term.start[$0] } }?.rule
    }

    /// As `lindero.yaml` declares them now.
    func declared(in ownership: TableOwnership) -> TableOwnership {
        var ownership = ownership
        for (column, terms) in terms {
            if let last = terms.last { ownership.columns[SimulatedRow.name(column)] = .shared(last.rule) }
        }
        return ownership
    }

    /// What columns had before, for the core.
    var former: [String: [FormerRule]] {
        Dictionary(uniqueKeysWithValues: terms.map { column, terms in
            let former = zip(terms, terms.dropFirst()).map { term, next in
                FormerRule(rule: term.rule, endLSN: [SimulatedRow.sides[0]: next.start[0], SimulatedRow.sides[1]: next.start[1]])
            }
            return (SimulatedRow.name(column), former)
        })
    }
}

extension SplitSimulation {
    /// Another policy for a column, or several, and another life of the worker.
    mutating func stepPolicies() throws {
        for _ in 0...random.below(2) {
            let column = SimulatedRow.firstShared + random.below(SimulatedRow.width - SimulatedRow.firstShared)
            let rules: [SharedColumnRule] = [
                .init(policy: .lastWrite), .init(policy: .prefer, side: SimulatedRow.sides[0]),
                .init(policy: .prefer, side: SimulatedRow.sides[1]), .init(policy: .max), .init(policy: .min), .init(policy: .queue),
            ]
            let rule = rules[random.below(rules.count)]
            policies.change(column, to: rule, at: databases.map(\.endLSN))
            truth.policies = policies
            note("column \(column) gets \(rule.policy) \(rule.side ?? "")")
        }
        try follow()
    }
}
