/// Writes a change back into the form it came in, so that it can be kept and decoded again later.
///
/// Values are copied, never interpreted: what `PGOutputDecoder` reads from the result is the change itself.
public enum PGOutputEncoder {
    /// A Relation message (protocol 1).
    public static func relation(_ relation: RelationMessage) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(ascii: "R")]
        bytes.append(bigEndian: relation.id)
        bytes.append(text: relation.name.schema == "pg_catalog" ? "" : relation.name.schema)
        bytes.append(text: relation.name.name)
        bytes += Array(relation.replicaIdentity.rawValue.utf8)
        bytes.append(bigEndian: UInt16(truncatingIfNeeded: relation.columns.count))
        for column in relation.columns {
            bytes.append(column.isKey ? 1 : 0)
            bytes.append(text: column.name)
            bytes.append(bigEndian: column.typeOID)
            bytes.append(bigEndian: UInt32(bitPattern: column.typeModifier))
        }
        return bytes
    }

    /// An Insert, Update or Delete message (protocol 1); `nil` for a truncation, which has no row.
    public static func change(_ change: Change, relation id: UInt32, arena: ChangeArena) -> [UInt8]? {
        var bytes: [UInt8]
        switch change.kind {
        case .insert: bytes = [UInt8(ascii: "I")]
        case .update: bytes = [UInt8(ascii: "U")]
        case .delete: bytes = [UInt8(ascii: "D")]
        case .truncate: return nil
        }
        bytes.append(bigEndian: id)
        if let oldKind = change.oldKind {
            bytes.append(oldKind == .full ? UInt8(ascii: "O") : UInt8(ascii: "K"))
            append(change.old, of: arena, to: &bytes)
        }
        if change.kind != .delete {
            bytes.append(UInt8(ascii: "N"))
            append(change.new, of: arena, to: &bytes)
        }
        return bytes
    }

    private static func append(_ tuple: TupleReference, of arena: ChangeArena, to bytes: inout [UInt8]) {
        bytes.append(bigEndian: UInt16(truncatingIfNeeded: tuple.count))
        for cell in arena.cells[tuple.cells] {
            switch cell.kind {
            case .null: bytes.append(UInt8(ascii: "n"))
            case .unchanged: bytes.append(UInt8(ascii: "u"))
            case .text, .binary:
                bytes.append(cell.kind == .text ? UInt8(ascii: "t") : UInt8(ascii: "b"))
                bytes.append(bigEndian: UInt32(bitPattern: cell.length))
                bytes += arena.bytes[cell.range]
            }
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func append(text: String) {
        append(contentsOf: text.utf8)
        append(0)
    }
}
