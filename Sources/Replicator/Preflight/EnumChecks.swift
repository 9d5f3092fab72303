import PostgresClient
import ReplicationCore

/// Enums of the target that lack labels which may come: the first row that has one would stop the direction.
///
/// In a split each side may have labels of its own, which its services know to keep there.
struct EnumChecks {
    let source: String
    let target: String
    let backend: LinderoConfiguration.Backend
    let lacks: [EnumLabels.Lack]

    func findings() -> [PreflightFinding] {
        lacks.map { lack in
            PreflightFinding(
                backend == .split ? .warning : .blocker, .enumLabel, database: target, object: lack.missing.type.description,
                "enum \(lack.missing.type), of \(lack.table).\(lack.column) for one, lacks \(lack.missing.list), which \(source) has: "
                    + "a row that comes with it would be refused",
                fix: lack.missing.sql + lack.missing.doubt)
        }
    }
}
