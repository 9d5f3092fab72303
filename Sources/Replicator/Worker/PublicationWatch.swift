import PostgresClient
import ReplicationCore

/// Looks now and then whether the publication still sends what the direction carries. Whoever owns it may leave things out, a table that
/// is dropped goes out of it, and one that gets another's name was never in it: the stream goes on without a word of that. So it does of
/// a partition that tells too little.
///
/// On a session of its own, since to look takes locks on the tables; a look that fails, for these or anything else, says nothing.
struct PublicationWatch: Sendable {
    static let pollMilliseconds = 5_000

    let settings: DirectionSettings
    /// What Lindero's own publication has when the stream begins, unless somebody has taken it out; no more than that is looked for.
    let tables: [QualifiedName]
    /// `nil` where another watch tells of them.
    var newTables: NewTables?

    private struct Seen {
        /// What the publication sent at the first look.
        var first: PublicationCover?
        /// A partition that told too little at the last one. It may have been made a moment ago, and be about to get its identity.
        var suspect: String?
        var new: NewTables?
    }

    /// Runs until cancelled.
    ///
    /// - Throws: `ReplicationFailure` once something is left out (`publication_table`), or told too little (`replica_identity`).
    func run() async throws {
        var seen = Seen(new: newTables)
        while true {
            do {
                try await PostgresConnection.with(options) { source in
                    while true {
                        try await look(source, &seen)
                        try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
                    }
                }
            } catch is PostgresError {
                try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
            }
        }
    }

    private var options: ConnectionOptions {
        var options = settings.askingOptions
        options.settings.append((name: "lock_timeout", value: "100ms"))
        return options
    }

    private func look(_ source: PostgresConnection, _ seen: inout Seen) async throws {
        // That there is none any more the stream says itself.
        guard let now = try await PublicationCover.read(settings, on: source) else { return }
        try await seen.new?.look(source)
        if let first = seen.first {
            try await now.require(Self.sent(first, settings), since: first, on: source)
        } else {
            let sent = Self.sent(now, settings)
            // Of somebody else's publication what it sends now is what it is to send.
            if PublicationCover.isOwn(settings) {
                try await now.require(sent + tables.filter { settings.includes($0) && !sent.contains($0) }, on: source)
            }
            seen.first = now
        }
        guard settings.backend == .replica, now.publication.missingOperations.filter({ ["update", "delete"].contains($0) }).count < 2 else { return }
        let found = try await PartitionIdentity(settings: settings, source: source).misfit(among: Self.sent(now, settings))
        if let found, found.leaf == seen.suspect { throw found.failure }
        seen.suspect = found?.leaf
    }

    private static func sent(_ cover: PublicationCover, _ settings: DirectionSettings) -> [QualifiedName] {
        cover.publication.tables.keys.filter(settings.includes)
    }
}

extension PublicationCover {
    private struct Loss {
        var words: String
        var mending: String
    }

    /// - Parameters:
    ///   - expected: the tables that it is to send.
    ///   - former: what it sent before; `nil` where that is to be everything of them.
    /// - Throws: `ReplicationFailure` (`publication_table`) for what it leaves out.
    func require(_ expected: [QualifiedName], since former: PublicationCover? = nil, on source: PostgresConnection) async throws {
        let gone = expected.filter { publication.tables[$0] == nil }
        // What was dropped or renamed has no changes under that name, and a partition's come under its root's.
        let unsent = gone.isEmpty ? [] : try await CatalogReader.tables(source, matching: gone).filter { !$0.isPartition }
        let losses = losses(of: expected.filter { !gone.contains($0) }, since: former, unsent: unsent)
        // One that is dropped between two questions has no tables; the stream says that there is none.
        guard !losses.isEmpty, try await PublicationCover.read(settings, on: source) != nil else { return }
        throw ReplicationFailure(
            .publicationTable,
            "Publication \(settings.publication) on \(settings.sourceName) \(losses.map(\.words).joined(separator: "; ")): what was "
                + "written meanwhile and left out is missing on \(settings.targetName).",
            nextStep: "Run on \(settings.sourceName): \(losses.map(\.mending).joined(separator: " ")) Then `lindero run`, and beside it "
                + "`lindero verify --repair`, which names what is missing and with --execute brings it. If such a row stops the worker "
                + "before: `replication: { missing_row: count }` until then.",
            isBlocker: true)
    }

    private func losses(of sent: [QualifiedName], since former: PublicationCover?, unsent: [TableDescription]) -> [Loss] {
        let name = SQLText.identifier(publication.name)
        var losses: [Loss] = []
        let operations = publication.missingOperations.filter { former?.publication.missingOperations.contains($0) != true }
        if !operations.isEmpty {
            losses.append(
                Loss(
                    words: "leaves out every \(operations.joined(separator: ", "))",
                    mending: "ALTER PUBLICATION \(name) SET (publish = 'insert, update, delete, truncate');"))
        }
        // Then it is the root that it no longer has.
        let throughRoot = "ALTER PUBLICATION \(name) SET (publish_via_partition_root = true);"
        func add(_ table: QualifiedName) -> String { "ALTER PUBLICATION \(name) ADD TABLE \(table.sql);" }
        losses += unsent.sorted(by: { $0.name < $1.name }).map { table in
            let isHidden = table.kind == .partitioned && !publication.publishesThroughRoot
            return Loss(words: "no longer has \(table.name)", mending: isHidden ? throughRoot : add(table.name))
        }
        for table in sent.sorted() {
            guard let now = publication.tables[table] else { continue }
            let before = former?.publication.tables[table]
            let again = "ALTER PUBLICATION \(name) DROP TABLE \(table.sql); \(add(table))"
            if now.hasRowFilter, before?.hasRowFilter != true { losses.append(Loss(words: "filters the rows of \(table)", mending: again)) }
            let withheld = withheld(table, now).filter { before?.columns?.contains($0) ?? true }
            if !withheld.isEmpty { losses.append(Loss(words: "leaves out \(SQLText.list(withheld)) of \(table)", mending: again)) }
        }
        return losses
    }

    private func withheld(_ table: QualifiedName, _ published: ServerFacts.PublishedTable) -> [String] {
        guard let columns = published.columns, let owned = settings.policy?.tables[table]?.columns.keys else { return [] }
        return owned.filter { !columns.contains($0) && settings.travels(table, $0) }.sorted()
    }
}
