import PostgresClient
import ReplicationCore

/// Reads table descriptions from a database's catalog: three queries, however many tables there are, and one more where
/// columns have composites or arrays of the users' own.
///
/// Left out: system schemas, `lindero`, `_prisma_migrations`, temporary tables, and tables that belong to an
/// extension (the target gets those with the extension).
public enum CatalogReader {
    /// The tables that a publication sends; none when it does not exist.
    static func publishedTables(
        _ connection: PostgresConnection, publication: String
    ) async throws -> [QualifiedName] {
        let published = try await connection.query(
            "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1", [.text(publication)])
        return published.rows.compactMap { row in
            guard let schema = row[0], let name = row[1] else { return nil }
            return QualifiedName(schema: schema, name: name)
        }
    }

    /// The tables, ordered by schema and name.
    ///
    /// - Parameter names: only these; names that the database lacks are absent from the answer. `nil` for all.
    public static func tables(
        _ connection: PostgresConnection, matching names: [QualifiedName]? = nil
    ) async throws(PostgresError) -> [TableDescription] {
        var tables = try await rows(connection, matching: names).compactMap(table)
        if tables.isEmpty { return [] }
        var positions: [UInt32: Int] = [:]
        for (position, table) in tables.enumerated() { positions[table.oid] = position }
        let oids = PostgresParameter.text("{" + tables.map { String($0.oid) }.joined(separator: ",") + "}")
        for row in try await connection.query(CatalogSQL.columns, [oids]).rows {
            guard let position = number(row["table"]).flatMap({ positions[$0] }), let column = column(row)
            else { continue }
            tables[position].columns.append(column)
        }
        try await addDefinitions(connection, to: &tables)
        let keys = uniqueIndexes(try await connection.query(CatalogSQL.uniqueIndexes, [oids]))
        for (oid, indexes) in keys {
            guard let position = positions[oid] else { continue }
            addKeys(indexes, to: &tables[position])
        }
        return tables
    }

    /// The tables that a pattern stands for.
    public static func tables(
        _ connection: PostgresConnection, selectedBy patterns: [TablePattern]
    ) async throws(PostgresError) -> [TableDescription] {
        let names = try await names(connection).filter { name in patterns.contains { $0.matches(name) } }
        return try await tables(connection, matching: names)
    }

    /// The names alone, of every table that `tables` could describe, or of those of them that are there.
    public static func names(
        _ connection: PostgresConnection, matching names: [QualifiedName]? = nil
    ) async throws(PostgresError) -> [QualifiedName] {
        try await rows(connection, matching: names).compactMap { row in
            guard let schema = row["schema"], let name = row["name"] else { return nil }
            return QualifiedName(schema: schema, name: name)
        }
    }

    private static func rows(
        _ connection: PostgresConnection, matching names: [QualifiedName]?
    ) async throws(PostgresError) -> [PostgresRow] {
        guard let names else { return try await connection.query(CatalogSQL.tables(filter: "")).rows }
        if names.isEmpty { return [] }
        return try await connection.query(
            CatalogSQL.tables(filter: "AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))"),
            [.text(SQLText.arrayLiteral(names.map(\.schema))), .text(SQLText.arrayLiteral(names.map(\.name)))]
        ).rows
    }

    private static func number<Number: FixedWidthInteger>(_ text: String?) -> Number? {
        text.flatMap { Number($0) }
    }

    private static func table(_ row: PostgresRow) -> TableDescription? {
        guard let oid: UInt32 = number(row["oid"]), let schema = row["schema"], let name = row["name"],
            let kind = row["kind"].flatMap(TableDescription.Kind.init),
            let identity = row["identity"].flatMap(TableDescription.ReplicaIdentity.init)
        else { return nil }
        return TableDescription(
            name: QualifiedName(schema: schema, name: name), oid: oid, kind: kind,
            isPartition: row["is_partition"] == "t", columns: [], replicaIdentity: identity,
            comparingIndexCount: number(row["comparing_indexes"]) ?? 0)
    }

    private static func column(_ row: PostgresRow) -> ColumnDescription? {
        guard let name = row["name"], let position: Int = number(row["number"]), let type = row["type"],
            let typeOID: UInt32 = number(row["type_oid"]), let baseOID: UInt32 = number(row["base_oid"]),
            let arrayOID: UInt32 = number(row["array_oid"])
        else { return nil }
        return ColumnDescription(
            name: name, number: position, type: type, typeOID: typeOID, baseTypeOID: baseOID,
            baseModifier: number(row["modifier"]) ?? -1, baseType: row["base_type"], baseArrayOID: arrayOID, castName: row["cast_name"],
            equality: row["equality"], baseKind: row["base_kind"] ?? "b", category: row["category"] ?? "",
            isNotNull: row["is_not_null"] == "t", isGenerated: row["is_generated"] == "t",
            identity: ColumnDescription.Identity(rawValue: row["identity"] ?? "") ?? .none,
            defaultExpression: row["default"], missingValue: row["missing"])
    }

    private static func addDefinitions(
        _ connection: PostgresConnection, to tables: inout [TableDescription]
    ) async throws(PostgresError) {
        let types = Set(tables.flatMap(\.columns).filter(\.isOfParts).map(\.baseTypeOID))
        if types.isEmpty { return }
        var definitions: [UInt32: [TypeDefinition]] = [:]
        let oids = PostgresParameter.text("{" + types.map { String($0) }.joined(separator: ",") + "}")
        for row in try await connection.query(CatalogSQL.definitions, [oids]).rows {
            guard let root: UInt32 = number(row["root"]), let type = row["type"], let kind = row["kind"] else { continue }
            let known = definitions[root, default: []]
            if known.last?.name != type { definitions[root, default: []].append(TypeDefinition(name: type, kind: kind, parts: [])) }
            guard let part = row["part_type"], let oid: UInt32 = number(row["part_oid"]), let last = definitions[root]?.indices.last
            else { continue }
            definitions[root]?[last].parts.append(
                TypeDefinition.Part(name: row["name"] ?? "", type: part, typeOID: oid, modifier: number(row["modifier"]) ?? -1))
        }
        for table in tables.indices {
            for column in tables[table].columns.indices where tables[table].columns[column].isOfParts {
                tables[table].columns[column].definitions = definitions[tables[table].columns[column].baseTypeOID] ?? []
            }
        }
    }

    private struct UniqueIndex {
        var oid: UInt32
        var isPrimary: Bool
        var isReplicaIdentity: Bool
        var isImmediate: Bool
        var columns: [String]
    }

    /// Rows come one per (index, column), ordered by table, index and position.
    private static func uniqueIndexes(_ result: PostgresResult) -> [UInt32: [UniqueIndex]] {
        var indexes: [UInt32: [UniqueIndex]] = [:]
        for row in result.rows {
            guard let table: UInt32 = number(row["table"]), let oid: UInt32 = number(row["index"]),
                let column = row["column"]
            else { continue }
            let known = indexes[table, default: []]
            if let last = known.indices.last, known[last].oid == oid {
                indexes[table]?[last].columns.append(column)
            } else {
                indexes[table, default: []].append(
                    UniqueIndex(
                        oid: oid, isPrimary: row["is_primary"] == "t",
                        isReplicaIdentity: row["is_identity"] == "t", isImmediate: row["is_immediate"] == "t",
                        columns: [column]))
            }
        }
        return indexes
    }

    private static func addKeys(_ indexes: [UniqueIndex], to table: inout TableDescription) {
        let primary = indexes.first(where: \.isPrimary)
        table.primaryKey = primary?.columns ?? []
        table.uniqueKeys = indexes.filter { !$0.isPrimary && $0.isImmediate }.map(\.columns)
        switch table.replicaIdentity {
        case .nothing: table.identityColumns = []
        case .index: table.identityColumns = indexes.first(where: \.isReplicaIdentity)?.columns ?? []
        // A deferrable primary key is no replica identity: PostgreSQL logs no key for it.
        case .default, .full: table.identityColumns = primary?.isImmediate == true ? table.primaryKey : []
        }
    }
}

extension ColumnDescription {
    /// Whether its type is made of others: a composite, an array or a range of the users' own.
    fileprivate var isOfParts: Bool {
        baseTypeOID >= TypeCompatibility.firstUserOID && (category == "A" || ["c", "r", "m"].contains(baseKind))
    }
}
