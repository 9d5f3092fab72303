/// libFuzzer's entry: the first byte chooses the protocol, the rest are messages of up to 255 bytes each, every one
/// behind its length. A trap, an overrun or a changed arena after an error ends the run.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDecoder(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let start, count > 1 else { return 0 }
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    var decoder = PGOutputDecoder(protocolVersion: Int(bytes[0] & 3) + 1, isParallelStreaming: bytes[0] & 4 != 0)
    var assembler = TransactionAssembler(cutBytes: 4_096)
    var offset = 1
    while offset < bytes.count {
        let end = min(bytes.count, offset + 1 + Int(bytes[offset]))
        let (byteCount, cellCount) = (assembler.arena.bytes.count, assembler.arena.cells.count)
        do {
            let message = try decoder.decode(bytes, (offset + 1)..<end, into: &assembler.arena)
            try? assembler.handle(message)
        } catch {
            precondition(assembler.arena.bytes.count == byteCount && assembler.arena.cells.count == cellCount)
        }
        if let chunk = assembler.take() {
            for cell in chunk.arena.cells where cell.kind == .text || cell.kind == .binary {
                precondition(cell.offset + Int(cell.length) <= chunk.arena.bytes.count)
            }
        }
        offset = end
    }
    return 0
}
