import PostgresClient
import ReplicationCore

/// A table in one side's stream that the ownership rules do not know: one that has left the split, or one of its own under another
/// name, of which nothing passes by (see `PolicyRefresh`).
struct UnknownTable {
    let settings: SplitSettings
    let side: Side
    let table: QualifiedName
    /// On its side.
    let oid: UInt32

    private var forward: String { settings[reading: .origin].name }

    /// - Returns: tables whose changes are nothing to the split, this one among them.
    /// - Throws: `ReplicationFailure` when only a person knows; `PostgresError`.
    func passing() async throws -> Set<QualifiedName> {
        let direction = settings[reading: side]
        guard PublicationCover.isOwn(direction) else {
            return try await PostgresConnection.with(settings.options(side)) { source in
                try await PublicationCover.strangers(direction, on: source).union([table])
            }
        }
        let fate = try await PostgresConnection.with(settings.options(side)) { try await TableFate.read(table, oid: oid, on: $0) }
        let leftAt = try await PostgresConnection.with(settings.options(.other)) { other in
            try await other.query(
                "SELECT left_at::text FROM lindero.split_table WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                [.text(forward), .text(table.schema), .text(table.name)]
            ).firstValue
        }
        // Gone from its side as well, it may have another name by now: then it takes a person to say that it has not.
        if let leftAt, fate == .present || leftAt == "-infinity" { return [table] }
        throw failure(fate)
    }

    private func failure(_ fate: TableFate) -> ReplicationFailure {
        let source = settings.name(side)
        let values = [forward, table.schema, table.name].map(SQLText.literal).joined(separator: ", ")
        let what = fate == .present ? "\(source) sends changes of \(table), which is no table of the split." : fate.words(of: table, on: source)
        let carrying =
            fate == .present
            ? "If it is one of the split's under a new name, give it that name on both sides and in lindero.yaml, then `lindero run`; it "
                + "goes on at that transaction."
            : "If they are wanted, give it that name again on both sides and in lindero.yaml, at a quiet time, until they have passed."
        return ReplicationFailure(
            .schemaDiffers, "\(what) Nothing after them was applied.",
            nextStep: "\(carrying) If nobody wants them, run on \(settings.name(.other)): INSERT INTO lindero.split_table (direction, "
                + "schema_name, table_name, private_columns, left_at) VALUES (\(values), '{}', '-infinity') ON CONFLICT (direction, "
                + "schema_name, table_name) DO UPDATE SET left_at = '-infinity'; Then `lindero run`.", isBlocker: true)
    }
}
