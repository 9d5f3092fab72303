import PostgresClient
import ReplicationCore

/// A table in one side's stream that the ownership rules do not know: one that has left the split, or one of its own under another
/// name, of which nothing passes by (see `PolicyRefresh`).
struct UnknownTable {
    let settings: SplitSettings
    let side: Side
    let table: QualifiedName

    private var direction: String { settings[reading: .origin].name }

    /// Returns when its changes are nothing to the split.
    ///
    /// - Throws: `ReplicationFailure` when only a person knows; `PostgresError`.
    func requirePassing() async throws {
        // What somebody else's publication sends need never have been ours.
        guard PublicationCover.isOwn(settings[reading: side]) else { return }
        let isThere = try await PostgresConnection.with(settings.options(side)) { source in
            try await source.query("SELECT pg_catalog.to_regclass($1)::text", [.text(table.sql)]).firstValue != nil
        }
        let leftAt = try await PostgresConnection.with(settings.options(.other)) { other in
            try await other.query(
                "SELECT left_at::text FROM lindero.split_table WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                [.text(direction), .text(table.schema), .text(table.name)]
            ).firstValue
        }
        // Gone from its side as well, it may have another name by now: then it takes a person to say that it has not.
        if let leftAt, isThere || leftAt == "-infinity" { return }
        throw failure(isThere: isThere)
    }

    private func failure(isThere: Bool) -> ReplicationFailure {
        let source = settings.name(side)
        let values = [direction, table.schema, table.name].map(SQLText.literal).joined(separator: ", ")
        let carrying =
            isThere
            ? "If it is one of the split's under a new name, give it that name on both sides and in lindero.yaml, then `lindero run`; it "
                + "goes on at that transaction."
            : "If it has another name now and its changes are wanted, give it this one on both sides and in lindero.yaml, at a quiet time, "
                + "until they have passed."
        return ReplicationFailure(
            .schemaDiffers,
            "\(source) sends changes of \(table), " + (isThere ? "which is no table of the split." : "and has no such table any more.")
                + " Nothing after them was applied.",
            nextStep: "\(carrying) If nobody wants them, run on \(settings.name(.other)): INSERT INTO lindero.split_table (direction, "
                + "schema_name, table_name, private_columns, left_at) VALUES (\(values), '{}', '-infinity') ON CONFLICT (direction, "
                + "schema_name, table_name) DO UPDATE SET left_at = '-infinity'; Then `lindero run`.", isBlocker: true)
    }
}
