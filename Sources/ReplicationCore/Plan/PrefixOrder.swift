/// Rows in the order of the first bytes of their keys; rows that have these in common stay in the order they came in.
///
/// A radix sort, from the last byte to the first, without the bytes that all have in common: keys of a group mostly differ in
/// three or four. Comparing them took four times as long.
struct PrefixOrder {
    private struct Entry {
        var prefix: UInt64
        var index: Int32
    }

    private var entries: [Entry] = []
    /// The bits in which any prefix differs from the first.
    private var differing: UInt64 = 0

    init(capacity: Int) { entries.reserveCapacity(capacity) }

    /// Adds the next row; there may be as many as an `Int32` counts.
    mutating func append(_ prefix: UInt64) {
        differing |= prefix ^ (entries.first?.prefix ?? prefix)
        entries.append(Entry(prefix: prefix, index: Int32(entries.count)))
    }

    /// Where each row was, in order.
    consuming func sorted() -> [Int] {
        var other = entries
        for shift in stride(from: UInt64(0), to: 64, by: 8) where differing >> shift & 0xff != 0 {
            Self.distribute(entries, to: &other, byAt: shift)
            swap(&entries, &other)
        }
        return entries.map { Int($0.index) }
    }

    private static func distribute(_ entries: [Entry], to other: inout [Entry], byAt shift: UInt64) {
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 256) { places in
            places.initialize(repeating: 0)
            for entry in entries { places[Int(entry.prefix >> shift & 0xff)] += 1 }
            var start = 0
            for digit in 0..<256 { (places[digit], start) = (start, start + places[digit]) }
            other.withUnsafeMutableBufferPointer { other in
                for entry in entries {
                    let digit = Int(entry.prefix >> shift & 0xff)
                    other[places[digit]] = entry
                    places[digit] += 1
                }
            }
        }
    }
}
