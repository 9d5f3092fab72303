import ReplicationCore

/// What the time in which services move adds to the checks of a settled split.
///
/// Then both sides write everything, so every check that asks who may write finds more. Most of that is no reason to stay: it is
/// one service, at two places for a moment. What the appliers' roles may not write is, since nothing would arrive.
struct SplitMoveChecks {
    /// Whether that is about to begin; else it is only good to know.
    let movesServices: Bool

    /// - Parameters:
    ///   - settled: what the declared ownership leads to.
    ///   - moving: what the transition's does, of the same table.
    func findings(settled: [PreflightFinding], moving: [PreflightFinding]) -> [PreflightFinding] {
        var findings = settled
        if movesServices {
            // The transition's rights contain the settled ones, and its beginning sets the identity.
            findings.removeAll { [.targetPrivilege, .replicaIdentity, .replicaIdentityFull].contains($0.code) }
        }
        for finding in moving where !settled.contains(finding) {
            var added = finding
            switch finding.code {
            case .targetPrivilege:
                let isTold = settled.contains { $0.code == finding.code && ($0.database, $0.object) == (finding.database, finding.object) }
                if !movesServices, isTold { continue }
                added.severity = movesServices ? .blocker : .note
            // Always so, and what is meant.
            case .deletedByBoth, .matchNumbered, .replicaIdentity, .replicaIdentityFull:
                continue
            default:
                guard movesServices, !settled.contains(where: { $0.code == finding.code && $0.object == finding.object }) else { continue }
                added.severity = .warning
            }
            added.message = "while services move, " + finding.message
            findings.append(added)
        }
        if movesServices {
            findings += moving.filter { $0.code == .targetPrivilege && settled.contains($0) }
        }
        return findings
    }
}
