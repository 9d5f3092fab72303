import ReplicationCore

/// The triggers and the function that record one table's ownership violations in `lindero.audit`.
///
/// A trigger runs its function for violations alone: `UPDATE OF` and `WHEN` turn every other write away before
/// PostgreSQL even queues it. The triggers are ordinary ones, so writes that a replication applies don't fire them.
struct AuditTrigger: Sendable, Equatable {
    /// A trigger by its name alone, which holds a fingerprint of its definition.
    struct Installed: Sendable, Hashable {
        var table: QualifiedName
        var name: String
    }

    static let prefix = "lindero_audit_"

    var table: QualifiedName
    var name: String
    /// The `CREATE TRIGGER` statement.
    var sql: String

    var installed: Installed { Installed(table: table, name: name) }

    /// FNV-1a, 64 bits: names must be equal for equal definitions, in every process.
    static func fingerprint(_ text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
