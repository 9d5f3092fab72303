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

    /// Whether a column's values have the same binary form on both sides and may be copied byte by byte.
    ///
    /// Built-in types, enums (sent as their label) and domains over them do; composites and arrays of user types
    /// carry OIDs of their server. An extension's base type is not trusted to.
    public static func isBinarySafe(source: ColumnDescription, target: ColumnDescription) -> Bool {
        if source.baseKind == "e" && target.baseKind == "e" { return true }
        return source.baseTypeOID == target.baseTypeOID && source.baseTypeOID < firstUserOID
            && source.baseKind != "c" && target.baseKind != "c"
    }
}
