/// A set of the hashes of rows' keys: open addressing, 0 is free.
struct KeyHashes: Sendable {
    private var slots: [UInt32] = []
    private var count = 0

    mutating func insert(_ hash: UInt32) {
        if (count + 1) * 2 > slots.count { grow() }
        if place(hash) { count += 1 }
    }

    func contains(_ hash: UInt32) -> Bool { !slots.isEmpty && slots[slot(of: Self.stored(hash))] != 0 }

    private mutating func grow() {
        let old = slots
        slots = [UInt32](repeating: 0, count: max(64, old.count * 4))
        for value in old where value != 0 { _ = place(value) }
    }

    /// - Returns: whether it is new.
    private mutating func place(_ hash: UInt32) -> Bool {
        let value = Self.stored(hash)
        let slot = slot(of: value)
        if slots[slot] == value { return false }
        slots[slot] = value
        return true
    }

    /// Where a value is, or would be: that slot is free then.
    private func slot(of value: UInt32) -> Int {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: value) & mask
        while slots[slot] != 0, slots[slot] != value { slot = (slot + 1) & mask }
        return slot
    }

    /// Two keys that seem the same are only taken for one row.
    private static func stored(_ hash: UInt32) -> UInt32 { hash == 0 ? 1 : hash }
}
