import PostgresClient
import ReplicationCore

/// The tables of a publication as they are on both sides when a stream begins.
struct TablePairs {
    private let settings: DirectionSettings
    private let source: [TableDescription]
    private let target: [QualifiedName: TableDescription]

    /// - Throws: `PostgresError`.
    static func read(_ settings: DirectionSettings, source: PostgresConnection, target: PostgresConnection) async throws -> TablePairs {
        let names = try await CatalogReader.publishedTables(source, publication: settings.publication)
        guard !names.isEmpty else { return TablePairs(settings: settings, source: [], target: [:]) }
        async let there = CatalogReader.tables(target, matching: names)
        let here = try await CatalogReader.tables(source, matching: names)
        return TablePairs(
            settings: settings, source: here, target: Dictionary(try await there.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first }))
    }

    /// What a binary stream needs to know: a column for each type of the source's own, by the type's OID.
    ///
    /// - Returns: `nil` where a column has another binary form on the other side, or none that means the same there.
    func binaryTypes() -> [UInt32: ColumnDescription]? {
        var types: [UInt32: ColumnDescription] = [:]
        for table in source {
            guard let other = target[table.name] else { continue }
            for column in table.columns {
                // The stream has one format: a column that stays behind decides it too.
                if !TypeCompatibility.hasPortableBinary(column) { return nil }
                if column.typeOID >= TypeCompatibility.firstUserOID { types[column.typeOID] = column }
                guard settings.travels(table.name, column.name), let same = other.column(column.name) else { continue }
                if !TypeCompatibility.isBinarySafe(source: column, target: same) { return nil }
            }
        }
        return types
    }

    /// Looks at types of the users' own, of which a stream tells no more than their numbers on the source.
    ///
    /// - Throws: `SchemaMismatch` for the first table where one has the same name on the target and another meaning.
    func requireSameTypes() throws {
        for table in source where settings.includes(table.name) && table.columns.contains(where: { $0.typeOID >= TypeCompatibility.firstUserOID }) {
            guard let twin = target[table.name] else { continue }
            let problems = table.columns.compactMap { column -> SchemaMismatch.Problem? in
                guard settings.travels(table.name, column.name), let other = twin.column(column.name), !other.isGenerated else { return nil }
                if let difference = TypeDifference.between(column, other) { return .definitionDiffers(column.name, difference) }
                // Under a domain of another name the stream does not see that it is rounded.
                let narrowing = TypeNarrowing.of(source: column.baseTypeOID, modifier: column.baseModifier, target: other)
                return column.isDomain && narrowing == .alters ? .typeDiffers(column.name, targetType: other.type) : nil
            }
            if !problems.isEmpty { throw SchemaMismatch(table: table.name, problems: problems) }
        }
    }
}
