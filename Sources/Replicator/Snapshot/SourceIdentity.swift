import PostgresClient
import ReplicationCore

/// Which tables of the source were copied under which names, by OID: a name may be another table's by now.
struct SourceIdentity {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection

    /// What a copy has recorded. Of a table that was taken as it was, and of copies of older versions, nobody knows.
    static func known(_ target: PostgresConnection, direction: String) async throws(PostgresError) -> [QualifiedName: UInt32] {
        let rows = try await target.query(
            "SELECT schema_name, table_name, source_oid::text FROM lindero.table_copy WHERE direction = $1 AND source_oid IS NOT NULL",
            [.text(direction)]
        ).rows
        return Dictionary(
            rows.compactMap { row in
                row[2].flatMap { UInt32($0) }.map { (QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), $0) }
            }, uniquingKeysWith: { first, _ in first })
    }

    /// - Throws: `ReplicationFailure` (`table_renamed`) when one of the tables that have been copied is another one by now.
    func requireSame(_ tables: [TableDescription]) async throws {
        let known = try await Self.known(target, direction: settings.name)
        for table in tables where known[table.name].map({ $0 != table.oid }) ?? false { try await settle(table.name, oid: table.oid) }
    }

    /// Decides what becomes of a name that another table has than the one that was copied.
    ///
    /// - Parameter oid: of the table that has it.
    /// - Throws: `ReplicationFailure` (`table_renamed`), unless it is the copied one's partitioned root by now: then its rows are the same.
    func settle(_ table: QualifiedName, oid: UInt32) async throws {
        let known = try await Self.known(target, direction: settings.name)
        guard let copied = known[table] else { return }
        let isRoot = try await source.query(
            "SELECT 1 FROM pg_catalog.pg_partition_ancestors($1::text::oid::regclass) a (oid) WHERE a.oid = $2::text::oid",
            [.text("\(copied)"), .text("\(oid)")]
        ).rowCount > 0
        if isRoot {
            _ = try await target.query(
                "UPDATE lindero.table_copy SET source_oid = $4::text::oid WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                [.text(settings.name), .text(table.schema), .text(table.name), .text("\(oid)")])
            return
        }
        let former = known.first { $0.value == oid }?.key
        throw ReplicationFailure(
            .tableRenamed,
            "Table \(table) of \(settings.sourceName) is another one than was copied to \(settings.targetName) under that name"
                + (former.map { ": that was \($0)" } ?? "") + ". \(settings.name) stops before its first change.",
            nextStep: try await nextStep(table, oid: oid, copied: copied, known), isBlocker: true)
    }

    private func nextStep(_ table: QualifiedName, oid: UInt32, copied: UInt32, _ known: [QualifiedName: UInt32]) async throws -> String {
        let accept = "If \(table) on \(settings.targetName) is that table already, run there: UPDATE lindero.table_copy SET source_oid = \(oid) "
            + "WHERE \(row(table));"
        switch try await TableFate.read(table, oid: copied, on: source) {
        case .gone:
            let emptying = try await LeftTables(settings: settings, target: target).emptyingSQL(table)
            return "The one that was copied is gone. To copy this one: run on \(settings.targetName): BEGIN; \(emptying) DELETE FROM "
                + "lindero.table_copy WHERE \(row(table)); COMMIT; Then `lindero run`. \(accept)"
        case .present:
            // The stream is behind the catalog.
            return "\(settings.sourceName) has given the name back since: what comes next is from between. Give the tables of "
                + "\(settings.targetName) the names of that time, and after it the present ones. \(accept)"
        case .renamed:
            let moves = try await moves(from: table, oid: oid, known)
            guard let sql = try await renaming(moves) else {
                let list = moves.map { "\($0.from) to \($0.to)" }.joined(separator: ", ")
                return "Rename on \(settings.targetName), where such names are taken already: \(list); and so in lindero.table_copy "
                    + "(direction \(settings.name)). Then `lindero run`. \(accept)"
            }
            return "Give the tables of \(settings.targetName) the names that they have on \(settings.sourceName), and tell Lindero: run there: "
                + "\(sql) Then `lindero run`. \(accept)"
        }
    }

    private func row(_ table: QualifiedName) -> String {
        "direction = \(SQLText.literal(settings.name)) AND (schema_name, table_name) = (\(SQLText.literal(table.schema)), \(SQLText.literal(table.name)))"
    }

    private typealias Move = (from: QualifiedName, to: QualifiedName)

    /// What hangs together with the name: the catalog may be ahead of the stream, and other tables' turn has not come.
    private func moves(from table: QualifiedName, oid: UInt32, _ known: [QualifiedName: UInt32]) async throws -> [Move] {
        var moves: [Move] = []
        if let former = known.first(where: { $0.value == oid })?.key { moves.append((former, table)) }
        var next = table
        while let copied = known[next], !moves.contains(where: { $0.from == next }),
            case .renamed(let now) = try await TableFate.read(next, oid: copied, on: source)
        {
            moves.append((next, now))
            next = now
        }
        return moves
    }

    /// By way of names that nothing has, since two may change places; `nil` where something else has one of the new names.
    private func renaming(_ moves: [Move]) async throws -> String? {
        let present = Set(try await CatalogReader.names(target))
        let leaving = Set(moves.map(\.from))
        guard moves.allSatisfy({ present.contains($0.from) && (!present.contains($0.to) || leaving.contains($0.to)) }) else { return nil }
        var (aside, home): ([String], [String]) = ([], [])
        for (index, move) in moves.enumerated() {
            let between = QualifiedName(schema: move.from.schema, name: "lindero_renamed_\(index + 1)")
            let settled = QualifiedName(schema: move.to.schema, name: between.name)
            aside.append("ALTER TABLE \(move.from.sql) RENAME TO \(SQLText.identifier(between.name));")
            aside.append("UPDATE lindero.table_copy SET table_name = \(SQLText.literal(between.name)) WHERE \(row(move.from));")
            if settled != between { home.append("ALTER TABLE \(between.sql) SET SCHEMA \(SQLText.identifier(move.to.schema));") }
            home.append("ALTER TABLE \(settled.sql) RENAME TO \(SQLText.identifier(move.to.name));")
            home.append("DELETE FROM lindero.table_copy WHERE \(row(move.to));")
            home.append(
                "UPDATE lindero.table_copy SET (schema_name, table_name) = (\(SQLText.literal(move.to.schema)), \(SQLText.literal(move.to.name))) "
                    + "WHERE \(row(between));")
        }
        return (["BEGIN;"] + aside + home + ["COMMIT;"]).joined(separator: " ")
    }
}
