import PostgresClient
import ReplicationCore

extension DirectionSettings {
    /// Looks at types of the users' own, of which a stream tells no more than their numbers on the source.
    ///
    /// - Throws: `SchemaMismatch` for the first table where one has the same name on the target and another meaning.
    func requireSameTypes(source: PostgresConnection, target: PostgresConnection) async throws {
        let names = try await CatalogReader.publishedTables(source, publication: publication).filter(includes)
        let tables = try await CatalogReader.tables(source, matching: names).filter { table in
            table.columns.contains { $0.typeOID >= TypeCompatibility.firstUserOID }
        }
        if tables.isEmpty { return }
        let twins = try await CatalogReader.tables(target, matching: tables.map(\.name))
        for table in tables {
            guard let twin = twins.first(where: { $0.name == table.name }) else { continue }
            let problems = table.columns.compactMap { column -> SchemaMismatch.Problem? in
                guard travels(table.name, column.name), let other = twin.column(column.name), !other.isGenerated else { return nil }
                if let difference = TypeDifference.between(column, other) { return .definitionDiffers(column.name, difference) }
                // Under a domain of another name the stream does not see that it is rounded.
                let narrowing = TypeNarrowing.of(source: column.baseTypeOID, modifier: column.baseModifier, target: other)
                return column.isDomain && narrowing == .alters ? .typeDiffers(column.name, targetType: other.type) : nil
            }
            if !problems.isEmpty { throw SchemaMismatch(table: table.name, problems: problems) }
        }
    }
}
