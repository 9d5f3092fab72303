/// The envelope of one CopyData message in the replication stream.
public enum ReplicationFrame: Sendable, Equatable {
    /// WAL data; `payload` is the plugin's message inside the given bytes.
    case xLogData(startLSN: LSN, endLSN: LSN, sentAt: PostgresTime, payload: Range<Int>)
    /// Sign of life; the server wants an answer at once if `replyRequested`.
    case keepalive(endLSN: LSN, sentAt: PostgresTime, replyRequested: Bool)

    /// What comes before the payload of WAL data: kind, two positions, a time.
    public static let dataHeadBytes = 25

    /// Parses the envelope that fills `range` of `bytes`.
    public init(_ bytes: [UInt8], _ range: Range<Int>) throws(WireError) {
        guard range.lowerBound >= 0, range.upperBound <= bytes.count, !range.isEmpty else {
            throw .truncated(message: 0, offset: range.lowerBound)
        }
        self = try bytes.span.bytes.withUnsafeBytes { (buffer) throws(WireError) in try Self.parse(buffer, range) }
    }

    private static func parse(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
    ) throws(WireError) -> ReplicationFrame {
        var reader = WireReader(bytes, range, message: bytes[range.lowerBound])
        switch try reader.byte() {
        case UInt8(ascii: "w"):
            let (start, end, sentAt) = (try reader.lsn(), try reader.lsn(), try reader.time())
            return .xLogData(startLSN: start, endLSN: end, sentAt: sentAt, payload: reader.offset..<range.upperBound)
        case UInt8(ascii: "k"):
            let (end, sentAt, reply) = (try reader.lsn(), try reader.time(), try reader.byte())
            try reader.finish()
            return .keepalive(endLSN: end, sentAt: sentAt, replyRequested: reply != 0)
        case let other:
            throw .unknownMessage(other)
        }
    }
}
