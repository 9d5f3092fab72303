import PostgresClient
import ReplicationCore

/// Which tables of a database are meant by which names, as far as that is known.
struct TableOIDs: Sendable {
    /// The last is the present one.
    private let oids: [QualifiedName: [UInt32]]
    /// What the stream's tables are called, whatever it calls them. A former one has the name that it had.
    let names: [UInt32: QualifiedName]

    init(_ oids: [QualifiedName: [UInt32]] = [:]) {
        self.oids = oids
        names = Dictionary(oids.compactMap { table, known in known.last.map { ($0, table) } }, uniquingKeysWith: { first, _ in first })
    }

    /// Whether a name is known to mean another table than this one.
    func isAnother(_ oid: UInt32, than table: QualifiedName) -> Bool { oids[table].map { !$0.contains(oid) } ?? false }

    /// The present table of a name.
    subscript(name: QualifiedName) -> UInt32? { oids[name]?.last }

    /// - Throws: `SchemaMismatch` where a table has the name of another one: the one that is meant is missing.
    func require(_ table: TableDescription?) throws(SchemaMismatch) {
        if let table { try require(table.oid, is: table.name) }
    }

    private func require(_ oid: UInt32, is table: QualifiedName) throws(SchemaMismatch) {
        if isAnother(oid, than: table) { throw SchemaMismatch(table: table, problems: [.missingTable]) }
    }

    /// Looks who has these names by now.
    ///
    /// - Throws: as `require`, for a name that is not the present table's, also where it is nobody's; `PostgresError`.
    func require(_ tables: Set<QualifiedName>, on connection: PostgresConnection) async throws {
        let known = tables.filter { oids[$0] != nil }.sorted()
        if known.isEmpty { return }
        let found = try await connection.query(
            "SELECT coalesce(pg_catalog.to_regclass(n)::oid, 0)::text FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS k(n, i) ORDER BY i",
            [.text(SQLText.arrayLiteral(known.map(\.sql)))])
        for (table, row) in zip(known, found.rows) { try require(row[0].flatMap { UInt32($0) } ?? 0, is: table) }
    }

    /// A statement that fails (22012) unless every name is its present table's, with `parameters`; it takes no locks.
    static let check: (text: String, parameterTypes: [UInt32]) = (
        """
        SELECT 1 / (pg_catalog.count(*) OPERATOR(pg_catalog.=) 0)::int
        FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e(oid, name)
        WHERE pg_catalog.to_regclass(e.name)::oid IS DISTINCT FROM e.oid
        """, [OID.oidArray, OID.textArray]
    )

    /// `nil` where nothing is known of them.
    func parameters(_ tables: Set<QualifiedName>) -> [PostgresParameter]? {
        let known = tables.filter { self[$0] != nil }.sorted()
        if known.isEmpty { return nil }
        return [
            .text("{" + known.compactMap { self[$0].map(String.init) }.joined(separator: ",") + "}"), .text(SQLText.arrayLiteral(known.map(\.sql))),
        ]
    }
}
