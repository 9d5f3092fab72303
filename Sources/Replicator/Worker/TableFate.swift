import PostgresClient
import ReplicationCore

/// What has become of a table of the stream, which may be older than the catalog: told by its OID, since the name may be another
/// table's or a view's by now.
enum TableFate: Equatable {
    case present
    case renamed(QualifiedName)
    case gone

    /// - Parameter oid: of the stream's definition.
    static func read(
        _ table: QualifiedName, oid: UInt32, on source: PostgresConnection
    ) async throws(PostgresError) -> TableFate {
        let row = try await source.query(
            """
            SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1
            """, [.text("\(oid)")]
        ).rows.first
        guard let row else { return .gone }
        let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
        return name == table ? .present : .renamed(name)
    }

    /// What it is called by now, for people.
    func words(of table: QualifiedName, on source: String) -> String {
        if case .renamed(let name) = self { return "\(source) has \(table) as \(name) now, and changes under its former name wait in the stream." }
        return "\(source) has no table \(table) any more, and its changes wait in the stream."
    }
}
