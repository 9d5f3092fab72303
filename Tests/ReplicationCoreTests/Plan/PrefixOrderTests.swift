import Testing

@testable import ReplicationCore

@Suite struct PrefixOrderTests {
    /// Against a comparison sort, for prefixes that differ in few bytes, in all, or not at all.
    @Test(arguments: [UInt64(0), 0xff, 0x00ff_ff00, 0xff00_0000_0000_00ff, .max])
    func theOrderIsThatOfAStableSort(mask: UInt64) {
        var random = SplitMix(state: mask &+ 7)
        for count in [0, 1, 2, 33, 1_000] {
            let prefixes = (0..<count).map { _ in (random.next() & mask) | 0x0000_0001_0000_0000 & ~mask }
            var order = PrefixOrder(capacity: count)
            for prefix in prefixes { order.append(prefix) }
            let expected = prefixes.indices.sorted { (prefixes[$0], $0) < (prefixes[$1], $1) }
            #expect(order.sorted() == expected)
        }
    }
}
