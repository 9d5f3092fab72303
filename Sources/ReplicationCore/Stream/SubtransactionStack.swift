/// Where each subtransaction of a streamed transaction begins, as far as an abort may still ask.
///
/// Subtransactions nest, and a parent has its id before its children. So a message of an older id means that every
/// younger one on the stack has ended and is now a part of the older: only that one's abort can take it back. And what
/// an abort takes back is everything from the first message on, for nothing that came after it can live on.
struct SubtransactionStack: Sendable {
    enum Cut: Equatable {
        /// Nothing is kept of it.
        case nothing
        /// Everything from this offset on goes.
        case from(Int)
        /// It was forgotten where it begins.
        case unknown
    }

    private struct Entry {
        var xid: UInt32
        /// `nil` when that was forgotten.
        var start: Int?
    }

    let limit: Int
    private var entries: [Entry] = []
    /// The youngest of those that had to be forgotten.
    private var forgotten: UInt32?

    init(limit: Int) { self.limit = limit }

    var sizeBytes: Int { entries.capacity * MemoryLayout<Entry>.stride }

    /// A message of `xid` is kept at `offset`.
    @inline(__always)
    mutating func note(_ xid: UInt32, top: UInt32, at offset: Int) {
        if let last = entries.last {
            if last.xid == xid { return }
        } else if xid == top, forgotten == nil {
            return
        }
        change(to: xid, top: top, at: offset)
    }

    private mutating func change(to xid: UInt32, top: UInt32, at offset: Int) {
        if xid == top {
            entries.removeAll()
            forgotten = nil
            return
        }
        var start: Int? = offset
        while let last = entries.last, Self.isYounger(last.xid, than: xid) {
            start = last.start
            entries.removeLast()
        }
        if let last = entries.last, last.xid == xid { return }
        // Some of what it took over may have been forgotten.
        if entries.isEmpty, let youngest = forgotten, !Self.isYounger(xid, than: youngest) { start = nil }
        entries.append(Entry(xid: xid, start: start))
        if entries.count > limit { _ = forgetHalf() }
    }

    /// Gives up the older half.
    ///
    /// - Returns: false when that is not worth it.
    mutating func forgetHalf() -> Bool {
        guard entries.count >= 8 else { return false }
        let half = entries.count / 2
        forgotten = entries[half - 1].xid
        entries = Array(entries[half...])
        return true
    }

    /// The subtransaction was rolled back, with all that it took over.
    mutating func abort(_ xid: UInt32) -> Cut {
        var cut = Cut.nothing
        while let last = entries.last, !Self.isYounger(xid, than: last.xid) {
            cut = last.start.map { .from($0) } ?? .unknown
            entries.removeLast()
        }
        if entries.isEmpty, let youngest = forgotten, !Self.isYounger(xid, than: youngest) { return .unknown }
        return cut
    }

    /// Ids wrap around.
    private static func isYounger(_ xid: UInt32, than other: UInt32) -> Bool {
        Int32(bitPattern: xid &- other) > 0
    }
}
