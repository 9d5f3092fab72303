import PostgresClient
import ReplicationCore

/// The values of a change from quarantine, in a form that the target's columns of today read.
///
/// Bytes of one type mean something else in another, and only the type that they were kept in tells what they are: where the
/// column has another one now, the server makes text of them.
struct KeptValues {
    let id: Int64
    let settings: DirectionSettings
    let target: PostgresConnection

    /// What a binary value is.
    private enum Form {
        case type(UInt32)
        /// An enum's: its label.
        case label
    }

    /// - Throws: `QuarantineError.outdated` for bytes of a type that nobody knows any more.
    func readable(_ stored: QuarantineStore.Stored, in table: TableDescription?) async throws -> QuarantineStore.Stored {
        var readable = stored
        for (index, column) in stored.relation.columns.enumerated() {
            guard settings.travels(stored.relation.name, column.name), let today = table?.column(column.name), !today.isGenerated
            else { continue }
            let cells = [stored.change.old, stored.change.new].filter { index < $0.count }.map { $0.firstCell + index }
                .filter { stored.arena.cells[$0].kind == .binary }
            if cells.isEmpty { continue }
            switch try await form(of: column, today: today, in: stored.relation.name) {
            case .label:
                for cell in cells { readable.arena.cells[cell].kind = .text }
            case .type(let type):
                readable.relation.columns[index].typeOID = type
                if type == today.baseTypeOID { continue }
                for cell in cells { try await write(cell, of: type, into: &readable.arena) }
            }
        }
        return readable
    }

    /// A user's type has a number of the source's: it is an enum, or a domain, whose bytes are those of what is under it.
    private func form(of column: RelationMessage.Column, today: ColumnDescription, in table: QualifiedName) async throws -> Form {
        if column.typeOID < TypeCompatibility.firstUserOID { return .type(column.typeOID) }
        if today.baseKind == "e" { return .label }
        let base = try await PostgresConnection.with(settings.source) { source in
            try await source.query(
                """
                WITH RECURSIVE under AS (
                  SELECT oid, typtype, typbasetype FROM pg_catalog.pg_type WHERE oid = $1::text::oid
                  UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t, under u
                  WHERE u.typtype = 'd' AND t.oid = u.typbasetype)
                SELECT oid::text, typtype::text FROM under WHERE typtype <> 'd'
                """, [.text("\(column.typeOID)")]
            ).rows.first.map { ($0[0].flatMap { UInt32($0) }, $0[1]) }
        }
        if base?.1 == "e" { return .label }
        guard let type = base?.0, type < TypeCompatibility.firstUserOID else {
            throw QuarantineError.outdated(
                id, "its value for column \(table).\(column.name) is of a type that \(settings.sourceName) does not have any more")
        }
        return .type(type)
    }

    private func write(_ cell: Int, of type: UInt32, into arena: inout ChangeArena) async throws {
        let text: PostgresResult
        do {
            // In the type's own text form: a cast of it may leave something out.
            text = try await target.query("SELECT pg_catalog.format('%s', $1)", [arena.parameter(cell)], parameterTypes: [type])
        } catch {
            guard case .server = error else { throw error }
            throw QuarantineError.refused(id, "\(error)")
        }
        guard let value = text.firstValue else { throw QuarantineError.cannotBeRead(id) }
        arena.cells[cell] = Cell(kind: .text, offset: arena.bytes.count, length: Int32(value.utf8.count))
        arena.bytes.append(contentsOf: value.utf8)
    }
}
