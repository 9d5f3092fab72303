import PostgresClient
import ReplicationCore

/// Extensions without which tables of the source cannot be made on the target.
struct ExtensionChecks {
    struct Need: Sendable, Equatable {
        var name: String
        var version: String
        /// One of the tables that need it.
        var table: QualifiedName
    }

    /// What the target says of an extension.
    struct Offer: Sendable, Equatable {
        /// `nil` when it is not there.
        var installed: String?
        var isAvailable: Bool
    }

    let source: String
    let target: String
    let needs: [Need]
    let offers: [String: Offer]

    func findings() -> [PreflightFinding] {
        needs.compactMap { need in
            let offer = offers[need.name] ?? Offer(installed: nil, isAvailable: false)
            guard offer.installed == nil else { return nil }
            let create = "CREATE EXTENSION \(SQLText.identifier(need.name));"
            return PreflightFinding(
                .blocker, .extensionMissing, database: target, object: need.name,
                "table \(need.table) of \(source) needs extension \(need.name) \(need.version), which is not here",
                fix: offer.isAvailable ? create : "install the package of \(need.name) on that server, then \(create)")
        }
    }

    // MARK: reading

    /// - Parameter tables: of the source, that the target lacks: those that are there have what they need.
    static func read(
        source: PreflightSide, target: PreflightSide, tables: [TableDescription]
    ) async throws(PostgresError) -> ExtensionChecks {
        let byOID = Dictionary(tables.map { ("\($0.oid)", $0.name) }, uniquingKeysWith: { first, _ in first })
        var needs: [Need] = []
        if !tables.isEmpty {
            let oids = PostgresParameter.text("{" + byOID.keys.sorted().joined(separator: ",") + "}")
            for row in try await source.connection.query(used, [oids]).rows {
                guard let table = row[2].flatMap({ byOID[$0] }) else { continue }
                needs.append(Need(name: row[0] ?? "", version: row[1] ?? "", table: table))
            }
        }
        var offers: [String: Offer] = [:]
        for row in try await target.connection.query(
            "SELECT name, installed_version FROM pg_catalog.pg_available_extensions WHERE name = ANY ($1::text[])",
            [.text(SQLText.arrayLiteral(needs.map(\.name)))]
        ).rows {
            offers[row[0] ?? ""] = Offer(installed: row[1], isAvailable: true)
        }
        return ExtensionChecks(source: source.name, target: target.name, needs: needs, offers: offers)
    }

    /// `$1`: oids of tables. Extensions that own a type, an operator class or a function which a table, one of its indexes,
    /// defaults or constraints is made with; types through arrays and domains.
    private static let used = """
        WITH RECURSIVE part(table_oid, class, object) AS (
            SELECT t, 'pg_catalog.pg_class'::pg_catalog.regclass, t FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t
            UNION SELECT i.indrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid
              FROM pg_catalog.pg_index i WHERE i.indrelid = ANY ($1)
            UNION SELECT d.adrelid, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid
              FROM pg_catalog.pg_attrdef d WHERE d.adrelid = ANY ($1)
            UNION SELECT k.conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
              FROM pg_catalog.pg_constraint k WHERE k.conrelid = ANY ($1)
        ), used(table_oid, class, object) AS (
            SELECT part.table_oid, d.refclassid, d.refobjid
            FROM part JOIN pg_catalog.pg_depend d ON d.classid = part.class AND d.objid = part.object
            UNION
            SELECT used.table_oid, 'pg_catalog.pg_type'::pg_catalog.regclass,
              CASE WHEN t.typelem <> 0 THEN t.typelem ELSE t.typbasetype END
            FROM used JOIN pg_catalog.pg_type t ON t.oid = used.object
            WHERE used.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND (t.typelem <> 0 OR t.typbasetype <> 0)
        )
        SELECT e.extname, e.extversion, min(used.table_oid)::text
        FROM used JOIN pg_catalog.pg_depend member ON member.classid = used.class AND member.objid = used.object
          AND member.deptype = 'e' AND member.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        JOIN pg_catalog.pg_extension e ON e.oid = member.refobjid
        WHERE e.extname <> 'plpgsql' GROUP BY 1, 2 ORDER BY 1
        """
}
