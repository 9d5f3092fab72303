import Testing

@testable import ReplicationCore

/// What a narrower column of the target does to values.
@Suite struct TypeNarrowingTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var source: UInt32
        var modifier: Int32
        var target: UInt32
        var room: Int32
        var expected: TypeNarrowing?
        var testDescription: String { "\(source) \(modifier) into \(target) \(room)" }
    }

    private static func numeric(_ precision: Int32, _ scale: Int32) -> Int32 { (precision << 16 | scale & 0x7ff) + 4 }
    private static let (n, ts, iv): (UInt32, UInt32, UInt32) = (1700, 1184, 1186)

    private static let cases: [Case] = [
        Case(source: n, modifier: -1, target: n, room: -1),
        Case(source: n, modifier: -1, target: n, room: numeric(10, 2), expected: .alters),
        Case(source: n, modifier: numeric(10, 2), target: n, room: numeric(10, 2)),
        Case(source: n, modifier: numeric(10, 2), target: n, room: numeric(12, 3)),
        Case(source: n, modifier: numeric(10, 3), target: n, room: numeric(12, 2), expected: .alters),
        Case(source: n, modifier: numeric(10, 2), target: n, room: numeric(10, 3), expected: .refuses),
        Case(source: n, modifier: numeric(3, -2), target: n, room: numeric(5, 0)),
        Case(source: n, modifier: numeric(5, 0), target: n, room: numeric(3, -2), expected: .alters),
        Case(source: 1231, modifier: -1, target: 1231, room: numeric(10, 2), expected: .alters),
        Case(source: 23, modifier: -1, target: n, room: numeric(10, 0)),
        Case(source: 20, modifier: -1, target: n, room: numeric(10, 2), expected: .refuses),
        Case(source: 20, modifier: -1, target: n, room: numeric(30, -1), expected: .alters),
        Case(source: ts, modifier: -1, target: ts, room: 6), Case(source: ts, modifier: 0, target: ts, room: 3),
        Case(source: ts, modifier: -1, target: ts, room: 0, expected: .alters),
        Case(source: 1083, modifier: 6, target: 1083, room: 3, expected: .alters),
        Case(source: iv, modifier: -1, target: iv, room: 0x7fff << 16 | 0xffff),
        Case(source: iv, modifier: -1, target: iv, room: 0x7fff << 16 | 2, expected: .alters),
        // year to month: 2 and 4.
        Case(source: iv, modifier: -1, target: iv, room: 6 << 16 | 0xffff, expected: .alters),
        Case(source: iv, modifier: 4 << 16 | 0xffff, target: iv, room: 6 << 16 | 0xffff),
        // Fields before the first one stay: day to second (8, 0x400, 0x800, 0x1000) keeps the years, and so does second.
        Case(source: iv, modifier: -1, target: iv, room: 0x1c08 << 16 | 0xffff), Case(source: iv, modifier: -1, target: iv, room: 0x1000 << 16 | 6),
        Case(source: iv, modifier: 6 << 16 | 0xffff, target: iv, room: 8 << 16 | 0xffff),
        Case(source: iv, modifier: 8 << 16 | 0xffff, target: iv, room: 6 << 16 | 0xffff, expected: .alters),
        // Who has no seconds loses none of their digits.
        Case(source: iv, modifier: 0x408 << 16 | 0xffff, target: iv, room: 0x7fff << 16 | 2),
        Case(source: 25, modifier: -1, target: 1043, room: 7, expected: .refuses),
        Case(source: 1043, modifier: 7, target: 1043, room: 9), Case(source: 1043, modifier: 9, target: 1043, room: 7, expected: .refuses),
        Case(source: 25, modifier: -1, target: 1042, room: 7, expected: .refuses),
        Case(source: 1042, modifier: 7, target: 1042, room: 9), Case(source: 1042, modifier: 7, target: 25, room: -1),
        Case(source: 1560, modifier: 3, target: 1560, room: 5, expected: .refuses),
        Case(source: 1562, modifier: -1, target: 1562, room: 5, expected: .refuses),
        // Of a user's type the stream tells no more than a number.
        Case(source: 20_000, modifier: -1, target: n, room: numeric(10, 2)),
    ]

    @Test(arguments: cases) func isKnownByTheModifiers(_ one: Case) {
        let target = ColumnDescription(name: "c", type: "", typeOID: one.target, baseTypeOID: one.target, baseModifier: one.room)
        #expect(TypeNarrowing.of(source: one.source, modifier: one.modifier, target: target) == one.expected)
    }
}
