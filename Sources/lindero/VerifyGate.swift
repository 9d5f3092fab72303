import ReplicationCore
import Replicator

/// What the last comparison means for going on: `gates.verify_age`.
enum VerifyGate {
    /// The last one of each direction; a database that cannot be asked has none.
    static func read(_ loaded: LoadedConfiguration) async -> [LastVerification] {
        var found: [LastVerification] = []
        for (direction, target) in directions(loaded) {
            let last = try? await loaded.database(target).connected {
                try await VerifyStore(connection: $0, direction: direction).last()
            }
            if let last = last ?? nil { found.append(last) }
        }
        return found
    }

    /// Closed, too, when nothing was ever compared, or when that cannot be known.
    static func gates(_ loaded: LoadedConfiguration, _ verifications: [LastVerification]) -> [StatusReport.Gate] {
        let limitSeconds = Double(loaded.configuration.gates.verifyAgeSeconds)
        return directions(loaded).map { direction, _ in
            let last = verifications.first { $0.direction == direction }
            return StatusReport.Gate(
                name: "\(direction) verify_age", limit: PlainText.seconds(limitSeconds),
                value: last.map { "\(PlainText.seconds($0.ageSeconds)), \($0.result.rawValue)" },
                holds: last.map { $0.result == .equal && $0.ageSeconds <= limitSeconds })
        }
    }

    private static func directions(_ loaded: LoadedConfiguration) -> [(direction: String, target: String)] {
        let configuration = loaded.configuration
        guard configuration.backend != .shared else { return [] }
        return configuration.others.map { target in
            let direction = VerifyDirection(
                source: configuration.origin, target: target.name, backend: configuration.backend)
            return (direction.name, target.name)
        }
    }

    static func words(_ last: LastVerification) -> String {
        "verify: \(last.direction) \(last.result.rawValue), \(PlainText.count(last.rows)) rows of \(last.tables) tables"
            + (last.differences > 0 ? ", \(PlainText.count(last.differences)) differed" : "")
            + ", begun \(PlainText.seconds(last.ageSeconds)) ago"
    }

    static func document(_ last: LastVerification) -> JSONValue {
        .object([
            ("direction", .text(last.direction)), ("result", .text(last.result.rawValue)),
            ("finishedAt", .text(last.finishedAt)), ("ageSeconds", .number(last.ageSeconds)),
            ("tables", .optional(last.tables)), ("rows", .optional(last.rows)),
            ("differences", .optional(last.differences)),
        ])
    }
}
