import PostgresClient
import ReplicationCore

/// Tries to write through a fence as each role that could, and wants to be kept waiting.
///
/// The writes touch no row. PostgreSQL locks a table before it looks at privileges, so every answer but "the lock is not
/// available" says that the table could be locked for writing, whatever else it says.
struct FenceCanary {
    let connection: PostgresConnection
    let tables: [QualifiedName]

    struct Finding {
        var held: [String] = []
        /// Roles that we may not act as.
        var untried: [String] = []
    }

    enum Failure: Error { case passed(role: String, table: QualifiedName) }

    /// A lock that is held is known after this.
    private static let patienceMilliseconds = 5

    func probe(_ roles: [WritingRole]) async throws -> Finding {
        var finding = Finding()
        let me = try await connection.query("SELECT current_user").firstValue ?? ""
        for table in tables { _ = try await isHeld(as: nil, table, me) }
        for role in roles {
            if try await isHeld(as: role.name, role.table, role.name) {
                finding.held.append(role.name)
            } else {
                finding.untried.append(role.name)
            }
        }
        return finding
    }

    /// - Returns: false when it could not be tried.
    private func isHeld(as role: String?, _ table: QualifiedName, _ name: String) async throws -> Bool {
        do throws(PostgresError) {
            _ = try await connection.execute("BEGIN; SET LOCAL lock_timeout = \(Self.patienceMilliseconds)")
            if let role { _ = try await connection.execute("SET LOCAL ROLE \(SQLText.identifier(role))") }
        } catch {
            try await connection.rollback()
            if error.sqlState?.class == "42" { return false }
            throw error
        }
        do throws(PostgresError) {
            _ = try await connection.execute("DELETE FROM \(table.sql) WHERE false")
        } catch {
            try await connection.rollback()
            if error.sqlState?.rawValue == "55P03" { return true }
            guard error.sqlState != nil else { throw error }
            throw Failure.passed(role: name, table: table)
        }
        try await connection.rollback()
        throw Failure.passed(role: name, table: table)
    }
}
