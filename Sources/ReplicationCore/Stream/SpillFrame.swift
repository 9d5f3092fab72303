/// A block of a streamed transaction as it stands in a file: a header that says which block it is, then its bytes.
public enum SpillFrame {
    public static let headerBytes = 24
    /// `LSP1`.
    private static let magic: UInt32 = 0x4C53_5031

    /// What is wrong with a frame that was read back.
    public enum Damage: Error, Sendable, Equatable, CustomStringConvertible {
        case tooShort
        case otherBlock
        case altered

        public var description: String {
            switch self {
            case .tooShort: "is shorter than what was written"
            case .otherBlock: "holds another block than was written there"
            case .altered: "was altered: its checksum does not fit"
            }
        }
    }

    /// The bytes of a file that `Spill.whole` made.
    public static func whole(_ bytes: [UInt8], number: UInt32) throws(Damage) -> Range<Int> {
        try block(bytes, at: 0, xid: number, sequence: 0)
    }

    static func header(xid: UInt32, sequence: UInt32, block: [UInt8]) -> [UInt8] {
        var header: [UInt8] = []
        header.reserveCapacity(headerBytes)
        for field in [magic, xid, sequence, UInt32(truncatingIfNeeded: block.count)] {
            withUnsafeBytes(of: field.littleEndian) { header.append(contentsOf: $0) }
        }
        let checksum = block.withUnsafeBytes { Checksum.of($0, seed: seed(xid, sequence)) }
        withUnsafeBytes(of: checksum.littleEndian) { header.append(contentsOf: $0) }
        return header
    }

    /// The block of the frame at `offset` of what was read from a file.
    static func block(
        _ bytes: [UInt8], at offset: Int, xid: UInt32, sequence: UInt32
    ) throws(Damage) -> Range<Int> {
        let found = bytes.withUnsafeBytes { raw -> Result<Range<Int>, Damage> in
            func field(_ index: Int) -> UInt32 {
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: offset + index * 4, as: UInt32.self))
            }
            guard offset + headerBytes <= raw.count else { return .failure(.tooShort) }
            guard field(0) == magic, field(1) == xid, field(2) == sequence else {
                return .failure(.otherBlock)
            }
            let block = (offset + headerBytes)..<(offset + headerBytes + Int(field(3)))
            guard block.upperBound <= raw.count else { return .failure(.tooShort) }
            let checksum = UInt64(
                littleEndian: raw.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self))
            let isSame =
                Checksum.of(UnsafeRawBufferPointer(rebasing: raw[block]), seed: seed(xid, sequence))
                == checksum
            return isSame ? .success(block) : .failure(.altered)
        }
        return try found.get()
    }

    private static func seed(_ xid: UInt32, _ sequence: UInt32) -> UInt64 {
        UInt64(xid) << 32 | UInt64(sequence)
    }
}
