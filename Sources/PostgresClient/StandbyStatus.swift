import Glibc

/// A standby status update, as the replication protocol wants it.
struct StandbyStatus {
    var received: UInt64
    var flushed: UInt64
    var applied: UInt64
    var isReplyRequested: Bool

    /// Microseconds since 2000-01-01 UTC, PostgreSQL's epoch.
    static func clock() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return (Int64(now.tv_sec) - 946_684_800) * 1_000_000 + Int64(now.tv_nsec) / 1_000
    }

    /// `r`, three positions, the clock, and whether an answer is wanted: 34 bytes.
    var message: [UInt8] {
        var bytes: [UInt8] = [UInt8(ascii: "r")]
        bytes.reserveCapacity(34)
        for value in [received, flushed, applied, UInt64(bitPattern: Self.clock())] {
            withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
        }
        bytes.append(isReplyRequested ? 1 : 0)
        return bytes
    }
}
