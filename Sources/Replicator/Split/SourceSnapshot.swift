/// Which transactions a server showed at a moment.
struct SourceSnapshot: Sendable {
    /// None from here on had ended, nor had these before it; by their lower 32 bits.
    private let end: UInt32
    private let running: Set<UInt32>

    /// - Parameter text: `xmin:xmax:xip,…` with 64 bits each, as PostgreSQL writes a `pg_snapshot`; `nil` if it is none.
    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, let end = UInt64(parts[1]) else { return nil }
        let running = parts[2].split(separator: ",").map { UInt64($0) }
        guard !running.contains(nil) else { return nil }
        self.end = UInt32(truncatingIfNeeded: end)
        self.running = Set(running.lazy.compactMap(\.self).map { UInt32(truncatingIfNeeded: $0) })
    }

    /// Whether it saw what a committed transaction did.
    ///
    /// - Parameter xid: as a stream has it, with 32 bits: those go round, so later is what is less than half a round ahead.
    func shows(_ xid: UInt32) -> Bool {
        Int32(bitPattern: xid &- end) < 0 && !running.contains(xid)
    }
}
