/// How long messages may gather before the socket is read again.
///
/// The sender must not come to wait: a walsender writes each message by itself, and the buffer of a socket is full of small ones
/// after some 200 (`net.core.wmem_default`, what the kernel keeps beside each message included). Nor should the reader wake
/// for a few, at 15 µs each. So a pause becomes as long as it takes for a good half of that buffer to come, until all is read.
struct GatherPause {
    private static let aimBytes = 128 << 10
    /// What a message takes beside its bytes, about.
    private static let messageBytes = 600
    private static let leastNanoseconds = 150_000
    private static let mostNanoseconds = 600_000

    private(set) var nanoseconds = mostNanoseconds

    /// Takes what has gathered in the last pause, and while that was read, as the measure of the next one.
    mutating func note(messages: Int, bytes: Int) {
        let filledBytes = max(1, messages * Self.messageBytes + bytes)
        // Shorter at once, since somebody waits; longer bit by bit, since little may have come for another reason.
        let fitting = min(nanoseconds * Self.aimBytes / filledBytes, nanoseconds * 5 / 4)
        nanoseconds = min(max(fitting, Self.leastNanoseconds), Self.mostNanoseconds)
    }
}
