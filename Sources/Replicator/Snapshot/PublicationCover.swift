import PostgresClient
import ReplicationCore

/// What a publication sends of the direction's tables. A publication that the configuration names is its owner's:
/// other subscribers may live on it, so it is looked at and never altered.
struct PublicationCover {
    let settings: DirectionSettings
    let publication: ServerFacts.Publication

    /// `nil` when the source has no such publication.
    static func read(_ settings: DirectionSettings, on source: PostgresConnection) async throws -> PublicationCover? {
        let found = try await ServerFactsReader.publication(
            source, settings.publication, version: await source.serverVersion)
        return found.map { PublicationCover(settings: settings, publication: $0) }
    }

    /// Whether Lindero made the publication, and may change it.
    static func isOwn(_ settings: DirectionSettings) -> Bool { settings.replication.publication == nil }

    /// What somebody else's publication sends beside the direction's tables: there may be much of it, and it need never have been ours.
    static func strangers(_ settings: DirectionSettings, on source: PostgresConnection) async throws -> Set<QualifiedName> {
        if isOwn(settings) { return [] }
        return Set(try await CatalogReader.publishedTables(source, publication: settings.publication).filter { !settings.includes($0) })
    }

    /// Why rows of the table that the stream will never send would come with a copy, or the other way round.
    func obstacle(_ table: TableDescription) -> String? {
        guard let published = publication.tables[table.name] else { return "lacks table \(table.name)" }
        if published.hasRowFilter { return "filters the rows of \(table.name), and a copy would hold them all" }
        let missing = withheld(table)
        return missing.isEmpty ? nil : "leaves out \(SQLText.list(missing)) of \(table.name)"
    }

    /// - Throws: `ReplicationFailure` that names every table the publication does not send whole, with the SQL.
    func requireWhole(_ tables: [TableDescription]) throws {
        let obstacles = tables.compactMap { table in obstacle(table).map { (table, $0) } }
        guard !obstacles.isEmpty else { return }
        throw ReplicationFailure(
            .publicationTable,
            "Publication \(settings.publication) on \(settings.sourceName) "
                + obstacles.map(\.1).joined(separator: "; ")
                + ". The configuration names it, so it may have other subscribers, and Lindero does not alter it.",
            nextStep: "Run on \(settings.sourceName): \(obstacles.map { mending($0.0) }.joined(separator: " ")) "
                + "Or remove `replication.publication`, and Lindero makes one of its own. Then `lindero run`.",
            isBlocker: true)
    }

    static func missing(_ settings: DirectionSettings, _ tables: [TableDescription]) -> ReplicationFailure {
        let list = tables.map(\.name.sql).joined(separator: ", ")
        return ReplicationFailure(
            .publicationMissing, "Publication \(settings.publication) does not exist on \(settings.sourceName).",
            nextStep: tables.isEmpty
                ? "Correct `replication.publication`, or list `tables:` and remove it: then Lindero makes one."
                : "Run on \(settings.sourceName): CREATE PUBLICATION \(SQLText.identifier(settings.publication)) FOR TABLE "
                    + "\(list) WITH (publish_via_partition_root = true); Or remove `replication.publication`.",
            isBlocker: true)
    }

    private func withheld(_ table: TableDescription) -> [String] {
        guard let columns = publication.tables[table.name]?.columns else { return [] }
        return table.columns.filter { column in
            !column.isGenerated && !columns.contains(column.name) && settings.travels(table.name, column.name)
        }.map(\.name)
    }

    private func mending(_ table: TableDescription) -> String {
        let name = SQLText.identifier(publication.name)
        guard publication.tables[table.name] != nil else {
            if table.kind == .partitioned, !publication.publishesThroughRoot {
                return "ALTER PUBLICATION \(name) SET (publish_via_partition_root = true);"
            }
            return "ALTER PUBLICATION \(name) ADD TABLE \(table.name.sql);"
        }
        return "ALTER PUBLICATION \(name) DROP TABLE \(table.name.sql); ALTER PUBLICATION \(name) ADD TABLE \(table.name.sql);"
    }
}
