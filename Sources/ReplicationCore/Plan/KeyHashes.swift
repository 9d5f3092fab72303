/// A set of the hashes of rows' keys: open addressing, 0 is free.
struct KeyHashes: Sendable {
    private var slots: [UInt32] = []
    private var count = 0

    mutating func insert(_ hash: UInt32) {
        if (count + 1) * 2 > slots.count { grow() }
        if place(hash) { count += 1 }
    }

    func contains(_ hash: UInt32) -> Bool {
        guard !slots.isEmpty else { return false }
        let value = Self.stored(hash)
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: value) & mask
        while slots[slot] != 0 {
            if slots[slot] == value { return true }
            slot = (slot + 1) & mask
        }
        return false
    }

    private mutating func grow() {
        let old = slots
        slots = [UInt32](repeating: 0, count: max(64, old.count * 4))
        for value in old where value != 0 { _ = place(value) }
    }

    /// - Returns: whether it is new.
    private mutating func place(_ hash: UInt32) -> Bool {
        let value = Self.stored(hash)
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: value) & mask
        while slots[slot] != 0 {
            if slots[slot] == value { return false }
            slot = (slot + 1) & mask
        }
        slots[slot] = value
        return true
    }

    /// Two keys that seem the same are only taken for one row.
    private static func stored(_ hash: UInt32) -> UInt32 { hash == 0 ? 1 : hash }
}
