import PostgresClient
import ReplicationCore
import Replicator

/// The publication through which tables are read, chosen among those that exist.
public struct PublicationChoice: Sendable, Equatable {
    public var name: String
    /// Tables that were asked for and are published.
    public var tables: Set<QualifiedName>
    /// Tables that were asked for and are not.
    public var missing: [QualifiedName]
    /// The statement that publishes what is missing.
    public var advice: String

    /// Takes the first that publishes every table, else the one that publishes most.
    ///
    /// - Parameters:
    ///   - names: publications in order of preference. After them come those `FOR ALL TABLES` that leave no operation
    ///     out; any other may filter rows or columns, so it must be named.
    ///   - tables: what shall be published; `nil` for whatever is.
    /// - Throws: `ReplicationFailure` when none publishes any of the tables.
    public static func choose(
        on connection: PostgresConnection, preferring names: [String], tables: Set<QualifiedName>?
    ) async throws -> PublicationChoice {
        var best: PublicationChoice?
        for candidate in try await candidates(connection, names) {
            let choice = try await make(candidate, on: connection, tables: tables)
            if choice.missing.isEmpty && !choice.tables.isEmpty { return choice }
            if choice.tables.count > best?.tables.count ?? -1 { best = choice }
        }
        if let best, !best.tables.isEmpty { return best }
        guard let best else {
            throw ReplicationFailure(
                .publicationMissing,
                "No publication covers the tables; \(names.first ?? "it") does not exist.",
                nextStep: "Run `lindero run`, which makes it, or name another with --publication.", isBlocker: true)
        }
        throw ReplicationFailure(
            .publicationMissing, "Publication \(best.name) covers none of the tables.",
            nextStep: "Run as its owner: \(best.advice)", isBlocker: true)
    }

    private struct Candidate {
        var name: String
        var isForAll: Bool
    }

    private static func candidates(
        _ connection: PostgresConnection, _ names: [String]
    ) async throws -> [Candidate] {
        let result = try await connection.query(
            """
            SELECT pubname, puballtables FROM pg_catalog.pg_publication
            WHERE pubname = ANY ($1::text[])
                OR puballtables AND pubinsert AND pubupdate AND pubdelete AND pubtruncate
            ORDER BY array_position($1::text[], pubname::text), pubname
            """, [.text(SQLText.arrayLiteral(names))])
        return result.rows.compactMap { row in row[0].map { Candidate(name: $0, isForAll: row[1] == "t") } }
    }

    private static func make(
        _ candidate: Candidate, on connection: PostgresConnection, tables: Set<QualifiedName>?
    ) async throws -> PublicationChoice {
        let result = try await connection.query(
            "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1",
            [.text(candidate.name)])
        let published = Set(
            result.rows.compactMap { row -> QualifiedName? in
                guard let schema = row[0], let name = row[1] else { return nil }
                return QualifiedName(schema: schema, name: name)
            })
        let missing = (tables ?? published).subtracting(published).sorted()
        let publication = "ALTER PUBLICATION \(SQLText.identifier(candidate.name))"
        // Of a publication for all tables only partitioned ones can be missing: their partitions are sent instead.
        let advice =
            candidate.isForAll
            ? "\(publication) SET (publish_via_partition_root = true);"
            : "\(publication) ADD TABLE \(missing.map(\.sql).joined(separator: ", "));"
        return PublicationChoice(
            name: candidate.name, tables: tables.map { $0.intersection(published) } ?? published, missing: missing,
            advice: advice)
    }
}
