import ReplicationCore

/// How a column's text becomes a JSON value.
enum ValueStyle: Sendable, Equatable {
    case number
    case bool
    case document
    case text

    init(typeOID: UInt32) {
        switch typeOID {
        // int8, int2, int4, float4, float8, numeric
        case 20, 21, 23, 700, 701, 1700: self = .number
        case 16: self = .bool
        // json, jsonb
        case 114, 3802: self = .document
        default: self = .text
        }
    }
}

/// How the rows of one definition of a table are written: everything that does not change from row to row.
struct RowShape: Sendable {
    struct Column: Sendable {
        /// `"name"`, as JSON.
        var label: [UInt8]
        var style: ValueStyle
        var isKey: Bool
    }

    /// `,"schema":"public","table":"Reservas","operation":`
    let heading: [UInt8]
    let columns: [Column]
    /// Positions of the key's columns.
    let key: [Int]

    /// - Parameter description: the table as the catalog has it; it knows the types under domains, and the primary key
    ///   of a table with `REPLICA IDENTITY FULL`, of which the stream says that every column is the key.
    init(_ relation: RelationMessage, description: TableDescription?) {
        var heading = Array(",\"schema\":".utf8)
        JSONText.appendString(relation.name.schema, to: &heading)
        heading += Array(",\"table\":".utf8)
        JSONText.appendString(relation.name.name, to: &heading)
        heading += Array(",\"operation\":".utf8)
        self.heading = heading
        let bases = Dictionary(
            (description?.columns ?? []).map { ($0.typeOID, $0.baseTypeOID) }, uniquingKeysWith: { first, _ in first })
        let primaryKey = relation.replicaIdentity == .full ? Set(description?.primaryKey ?? []) : nil
        columns = relation.columns.map { column in
            var label: [UInt8] = []
            JSONText.appendString(column.name, to: &label)
            return Column(
                label: label, style: ValueStyle(typeOID: bases[column.typeOID] ?? column.typeOID),
                isKey: primaryKey.map { $0.contains(column.name) } ?? column.isKey)
        }
        key = columns.indices.filter { [columns] in columns[$0].isKey }
    }
}
