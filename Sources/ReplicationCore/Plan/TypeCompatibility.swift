/// Which source types a target column takes without a person having to look.
public enum TypeCompatibility {
    /// OIDs below this belong to PostgreSQL itself and mean the same on every server.
    public static let firstUserOID: UInt32 = 16_384

    private static let text: Set<UInt32> = [25, 1042, 1043]  // text, char(n), varchar
    /// Widening order: smallint, integer, bigint, numeric.
    private static let integers: [UInt32] = [21, 23, 20, 1700]

    /// User-defined types and domains have other OIDs on each server and are compared by name, elsewhere.
    public static func fits(sourceOID: UInt32, target: ColumnDescription) -> Bool {
        if sourceOID >= firstUserOID || target.baseTypeOID >= firstUserOID { return true }
        if sourceOID == target.typeOID || sourceOID == target.baseTypeOID { return true }
        if text.contains(sourceOID) && text.contains(target.baseTypeOID) { return true }
        guard let from = integers.firstIndex(of: sourceOID), let to = integers.firstIndex(of: target.baseTypeOID)
        else { return false }
        return from <= to
    }

    /// Whether a column keeps or refuses what comes as text, whatever type that was of, and never makes another value of it: in a
    /// split, what was written before its type was altered on both sides. A date drops the time of a timestamp, and a real digits.
    static func keepsText(_ target: ColumnDescription) -> Bool {
        [20, 21, 23, 25, 1043].contains(target.baseTypeOID) || target.baseTypeOID == 1700 && target.baseModifier < 0
    }

    /// Whether a column holds what comes from a source's column as it is: neither rounded nor another value.
    ///
    /// - Parameter asText: whether values of a former type may be on their way, which then are asked for as text.
    public static func holds(_ source: RelationMessage.Column, in target: ColumnDescription, asText: Bool) -> Bool {
        guard fits(sourceOID: source.typeOID, target: target) || asText && keepsText(target) else { return false }
        return TypeNarrowing.of(source: source.typeOID, modifier: source.typeModifier, target: target) != .alters
    }

    /// `regclass` and its kin, and arrays of them: their binary form is an OID of their server. `oidvector`,
    /// `int2vector` and arrays of them: an empty one is refused in the very form that it is sent in. `aclitem` and its
    /// array, and `gtsvector`: they have no binary form.
    private static let textOnly: Set<UInt32> = [
        22, 30, 1006, 1013, 1033, 1034, 3642, 3644,
        24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191,
        1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192,
    ]

    /// Whether a column's binary form means the same on another server.
    ///
    /// Built-in types, enums (sent as their label) and domains over them; not composites and arrays of user types,
    /// which carry their server's OIDs. An extension's base type is not trusted to.
    public static func hasPortableBinary(_ column: ColumnDescription) -> Bool {
        if column.baseKind == "e" { return true }
        return column.baseKind != "c" && column.baseTypeOID < firstUserOID && !textOnly.contains(column.baseTypeOID)
    }

    /// Whether a column's values have the same binary form on both sides and may be copied byte by byte.
    public static func isBinarySafe(source: ColumnDescription, target: ColumnDescription) -> Bool {
        if source.baseKind == "e" && target.baseKind == "e" { return true }
        return source.baseTypeOID == target.baseTypeOID && hasPortableBinary(source) && hasPortableBinary(target)
    }

    /// Whether a table as the stream defines it may be read from a binary one.
    ///
    /// Of a user's type the stream tells no more than an OID of the source. One that is not known may be an enum, whose label
    /// would be read as a number: then the target's column must be one that reads labels, or text.
    ///
    /// - Parameter userTypes: a column of the source for each of its own types that is known, by the type's OID.
    public static func travelsInBinary(
        _ relation: RelationMessage, to target: TableDescription, userTypes: [UInt32: ColumnDescription] = [:]
    ) -> Bool {
        relation.columns.allSatisfy { source in
            guard let column = target.column(source.name) else { return true }
            if let known = userTypes[source.typeOID] { return isBinarySafe(source: known, target: column) }
            if source.typeOID >= firstUserOID { return column.baseKind == "e" || text.contains(column.baseTypeOID) }
            return hasPortableBinary(column) && source.typeOID == column.baseTypeOID
        }
    }
}
