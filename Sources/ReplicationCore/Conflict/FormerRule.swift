/// A rule that a split's shared column had until another took its place.
///
/// Two writes that meet are judged on both sides, often in two lives of the worker. So which rule is theirs must not depend on when
/// they arrive: it is the former one if both were committed before it ended, each in its own database's log, and else the next.
public struct FormerRule: Sendable, Equatable {
    public var rule: SharedColumnRule
    /// Where it ended, in each database's log; by the database's name.
    public var endLSN: [String: LSN]

    public init(rule: SharedColumnRule, endLSN: [String: LSN]) {
        self.rule = rule
        self.endLSN = endLSN
    }
}

extension SplitTable.SharedColumn {
    /// `FormerRule` as one direction of a split sees it.
    struct Former: Sendable, Equatable {
        var policy: SharedColumnRule.Policy
        var prefersSource: Bool
        var sourceEndLSN: LSN
        var targetEndLSN: LSN

        init(_ former: FormerRule, source: String, target: String) {
            policy = former.rule.policy
            prefersSource = former.rule.side == source
            sourceEndLSN = former.endLSN[source] ?? .zero
            targetEndLSN = former.endLSN[target] ?? .zero
        }
    }

    /// The column under the rule by which two writes that met are judged.
    func judging(remote: WriteMark, local: WriteMark) -> Self {
        guard
            let rule = former.first(where: {
                remote.id.commitLSN < $0.sourceEndLSN && local.id.commitLSN < $0.targetEndLSN
            })
        else { return self }
        var column = self
        column.policy = rule.policy
        column.prefersSource = rule.prefersSource
        return column
    }

    /// Whether differences may be added to it.
    var mayAdd: Bool { policy == .delta || former.contains { $0.policy == .delta } }
    /// Whether deciding about a remote write needs to know the local ones. A counter adds up without.
    var needsHistory: Bool { policy != .delta }
    /// Whether it needs their values, too: the decision may be a value that the row no longer holds. After a rule that judged some of
    /// the writes otherwise it may be any.
    var needsValue: Bool {
        switch policy {
        case .max, .min, .queue: true
        case .lastWrite, .prefer: !former.isEmpty
        case .delta: false
        }
    }
}
