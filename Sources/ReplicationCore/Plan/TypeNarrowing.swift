/// What a target's column does, by its modifier, to values of the source that it has no room for.
public enum TypeNarrowing: Sendable, Equatable {
    /// They become other values, without an error: the two databases would differ for ever.
    case alters
    /// They are refused; of texts, blanks at the end are cut.
    case refuses

    private static let (numeric, interval, char, varchar, bit, varbit): (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32) =
        (1700, 1186, 1042, 1043, 1560, 1562)
    private static let integerDigits: [UInt32: Int] = [21: 5, 23: 10, 20: 19]
    private static let texts: Set<UInt32> = [25, 1042, 1043]
    private static let times: Set<UInt32> = [1083, 1114, 1184, 1266]
    /// An array's modifier is its elements'.
    private static let elements: [UInt32: UInt32] = [
        1014: 1042, 1015: 1043, 1115: 1114, 1183: 1083, 1185: 1184, 1187: 1186, 1231: 1700, 1270: 1266, 1561: 1560, 1563: 1562,
    ]

    /// - Parameters:
    ///   - source: the type under all domains.
    ///   - modifier: of that type; -1 for none.
    /// - Returns: `nil` where every value fits, or the types have no modifiers in common.
    public static func of(source: UInt32, modifier: Int32, target: ColumnDescription) -> TypeNarrowing? {
        guard target.baseModifier >= 0 else { return nil }
        let (from, to) = (elements[source] ?? source, elements[target.baseTypeOID] ?? target.baseTypeOID)
        switch to {
        case numeric:
            let room = digits(target.baseModifier)
            if let digits = integerDigits[from] { return room.after < 0 ? .alters : room.before < digits ? .refuses : nil }
            guard from == numeric else { return nil }
            if modifier < 0 { return .alters }
            let wanted = digits(modifier)
            return room.after < wanted.after ? .alters : room.before < wanted.before ? .refuses : nil
        case interval where from == interval:
            let (wanted, room) = (intervalRoom(modifier), intervalRoom(target.baseModifier))
            return room.finest < wanted.finest || room.digits < wanted.digits ? .alters : nil
        case char where texts.contains(from), varchar where texts.contains(from), varbit where from == bit || from == varbit:
            // Filled up with blanks, a text stays equal to what it was, by the comparison of char and so by `verify`.
            return modifier < 0 || modifier > target.baseModifier ? .refuses : nil
        case bit where from == bit:
            return modifier != target.baseModifier ? .refuses : nil
        case _ where times.contains(to) && from == to:
            return target.baseModifier < (modifier < 0 ? 6 : modifier) ? .alters : nil
        default:
            return nil
        }
    }

    /// Digits before and after the point.
    private static func digits(_ modifier: Int32) -> (before: Int, after: Int) {
        let packed = Int(modifier) - 4
        // Eleven bits with a sign, which no server before 15 sets.
        let scale = ((packed & 0x7ff) ^ 0x400) - 0x400
        return ((packed >> 16 & 0xffff) - scale, scale)
    }

    /// The bits of an interval's fields, from years to seconds.
    private static let intervalFields: [Int32] = [0x4, 0x2, 0x8, 0x400, 0x800, 0x1000]

    /// The finest field that is kept, and digits of seconds: those before the first that is named are kept, too.
    private static func intervalRoom(_ modifier: Int32) -> (finest: Int, digits: Int32) {
        let fields = modifier < 0 ? 0x7fff : modifier >> 16
        let finest = intervalFields.lastIndex { fields & $0 != 0 } ?? 0
        if finest < intervalFields.count - 1 { return (finest, 0) }
        return (finest, modifier < 0 || modifier & 0xffff == 0xffff ? 6 : modifier & 0xffff)
    }
}
