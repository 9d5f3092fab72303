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
        case type(UInt32, modifier: Int32)
        /// An enum's: its label.
        case label
    }

    /// - Throws: `QuarantineError.outdated` for bytes of a type that nobody knows any more.
    func readable(_ stored: QuarantineStore.Stored, in table: TableDescription?) async throws -> QuarantineStore.Stored {
        var readable = stored
        let name = stored.relation.name
        let kept = stored.relation.columns.enumerated().compactMap { index, column -> (index: Int, today: ColumnDescription, cells: [Int])? in
            guard settings.travels(name, column.name), let today = table?.column(column.name), !today.isGenerated else { return nil }
            let cells = [stored.change.old, stored.change.new].filter { index < $0.count }.map { $0.firstCell + index }
                .filter { stored.arena.cells[$0].kind == .binary }
            return cells.isEmpty ? nil : (index, today, cells)
        }
        let columns = stored.relation.columns
        let known = try await forms(
            of: Set(kept.filter { $0.today.baseKind != "e" }.map { columns[$0.index].typeOID }).filter { $0 >= TypeCompatibility.firstUserOID })
        for (index, today, cells) in kept {
            let column = columns[index]
            let isBuiltIn = column.typeOID < TypeCompatibility.firstUserOID
            switch isBuiltIn ? .type(column.typeOID, modifier: column.typeModifier) : today.baseKind == "e" ? .label : known[column.typeOID] {
            case nil:
                throw QuarantineError.outdated(
                    id, "its value for column \(name).\(column.name) is of a type that \(settings.sourceName) does not have any more")
            case .label:
                for cell in cells { readable.arena.cells[cell].kind = .text }
            case .type(let type, let modifier):
                readable.relation.columns[index].typeOID = type
                readable.relation.columns[index].typeModifier = modifier
                if type == today.baseTypeOID { continue }
                for cell in cells { try await write(cell, of: type, into: &readable.arena) }
            }
        }
        return readable
    }

    /// A user's type has a number of the source's: it is an enum, or a domain, whose bytes are those of what is under it.
    private func forms(of types: Set<UInt32>) async throws -> [UInt32: Form] {
        if types.isEmpty { return [:] }
        let found = try await PostgresConnection.with(settings.source) { source in
            try await source.query(
                """
                WITH RECURSIVE under AS (
                  SELECT oid AS kept, oid, typtype, typbasetype, typtypmod AS modifier FROM pg_catalog.pg_type
                  WHERE oid IN (SELECT * FROM pg_catalog.unnest($1::text::oid[]))
                  UNION ALL SELECT u.kept, t.oid, t.typtype, t.typbasetype, greatest(u.modifier, t.typtypmod)
                  FROM pg_catalog.pg_type t, under u WHERE u.typtype = 'd' AND t.oid = u.typbasetype)
                SELECT kept::text, oid::text, typtype::text, modifier::text FROM under WHERE typtype <> 'd'
                """, [.text("{" + types.map { "\($0)" }.joined(separator: ",") + "}")])
        }
        var forms: [UInt32: Form] = [:]
        for row in found.rows {
            guard let kept = row[0].flatMap({ UInt32($0) }), let type = row[1].flatMap({ UInt32($0) }) else { continue }
            if row[2] == "e" {
                forms[kept] = .label
            } else if type < TypeCompatibility.firstUserOID {
                forms[kept] = .type(type, modifier: row[3].flatMap { Int32($0) } ?? -1)
            }
        }
        return forms
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
