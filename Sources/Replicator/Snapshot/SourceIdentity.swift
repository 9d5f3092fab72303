import PostgresClient
import ReplicationCore

/// Which tables of the source a direction's tables are, by OID: a name may be another table's by now.
struct SourceIdentity {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection

    /// What is recorded; of tables that an older version copied, what their names stand for now.
    func known() async throws -> [QualifiedName: UInt32] {
        let rows = try await target.query(
            "SELECT schema_name, table_name, source_oid::text FROM lindero.table_copy WHERE direction = $1", [.text(settings.name)]
        ).rows
        var known: [QualifiedName: UInt32] = [:]
        var unknown: [QualifiedName] = []
        for row in rows {
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            if let oid = row[2].flatMap({ UInt32($0) }) { known[name] = oid } else { unknown.append(name) }
        }
        guard !unknown.isEmpty else { return known }
        for table in try await CatalogReader.tables(source, matching: unknown) where !known.values.contains(table.oid) {
            known[table.name] = table.oid
            _ = try await target.query(
                """
                UPDATE lindero.table_copy SET source_oid = $4::text::oid
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND source_oid IS NULL
                """, [.text(settings.name), .text(table.name.schema), .text(table.name.name), .text("\(table.oid)")])
        }
        return known
    }

    /// - Throws: `ReplicationFailure` (`table_renamed`) when one of the tables that have been copied is another one by now.
    func requireSame(_ tables: [TableDescription]) async throws {
        let known = try await known()
        guard let other = tables.first(where: { table in known[table.name].map { $0 != table.oid } ?? false }) else { return }
        throw try await failure(other.name, oid: other.oid)
    }

    /// What to do about a name that another table has by now.
    ///
    /// - Parameter oid: of the table that has it.
    func failure(_ table: QualifiedName, oid: UInt32) async throws -> ReplicationFailure {
        let known = try await known()
        var moves: [(from: QualifiedName, to: QualifiedName)] = []
        for (name, known) in known.sorted(by: { $0.key < $1.key }) {
            // The catalog may be ahead of the stream, which knows this one.
            if known == oid {
                moves.append((name, table))
            } else if case .renamed(let now) = try await TableFate.read(name, oid: known, on: source) {
                moves.append((name, now))
            }
        }
        let says =
            "Table \(table) of \(settings.sourceName) is another one than was copied to \(settings.targetName) under that name"
            + (known.first { $0.value == oid }.map { ": that was \($0.key)" } ?? "") + ". \(settings.name) stops before its first change."
        guard moves.contains(where: { $0.from == table }) else {
            return ReplicationFailure(
                .tableRenamed, says,
                nextStep: "The one that was copied is gone. To copy this one: run on \(settings.targetName): TRUNCATE \(table.sql); DELETE FROM "
                    + "lindero.table_copy WHERE \(row(table)); Then `lindero run`. If \(table.name) on \(settings.targetName) is that table already, run "
                    + "there instead: UPDATE lindero.table_copy SET source_oid = \(oid) WHERE \(row(table));", isBlocker: true)
        }
        return ReplicationFailure(
            .tableRenamed, says,
            nextStep: "Give the tables of \(settings.targetName) the names that they have on \(settings.sourceName) now, and tell Lindero: run there: "
                + "\(try await renaming(moves)) Then `lindero run`.", isBlocker: true)
    }

    private func row(_ table: QualifiedName) -> String {
        "direction = \(SQLText.literal(settings.name)) AND (schema_name, table_name) = (\(SQLText.literal(table.schema)), \(SQLText.literal(table.name)))"
    }

    /// By way of names that nothing has, since two may change places. What the target has renamed already is only told.
    private func renaming(_ moves: [(from: QualifiedName, to: QualifiedName)]) async throws -> String {
        let present = Set(try await CatalogReader.names(target))
        let leaving = Set(moves.map(\.from))
        var (aside, home): ([String], [String]) = ([], [])
        for (index, move) in moves.enumerated() {
            let between = QualifiedName(schema: move.from.schema, name: "lindero_renamed_\(index + 1)")
            let settled = QualifiedName(schema: move.to.schema, name: between.name)
            if present.contains(move.from), !present.contains(move.to) || leaving.contains(move.to) {
                aside.append("ALTER TABLE \(move.from.sql) RENAME TO \(SQLText.identifier(between.name));")
                if settled != between { home.append("ALTER TABLE \(between.sql) SET SCHEMA \(SQLText.identifier(move.to.schema));") }
                home.append("ALTER TABLE \(settled.sql) RENAME TO \(SQLText.identifier(move.to.name));")
            }
            aside.append("UPDATE lindero.table_copy SET table_name = \(SQLText.literal(between.name)) WHERE \(row(move.from));")
            home.append("DELETE FROM lindero.table_copy WHERE \(row(move.to));")
            home.append(
                "UPDATE lindero.table_copy SET (schema_name, table_name) = (\(SQLText.literal(move.to.schema)), \(SQLText.literal(move.to.name))) "
                    + "WHERE \(row(between));")
        }
        return (["BEGIN;"] + aside + home + ["COMMIT;"]).joined(separator: " ")
    }
}
