import Testing

@testable import ReplicationCore

/// What the decoder keeps between messages, and what it keeps out of the arena.
@Suite struct DecoderStateTests {
    private static let files = GoldenFile.rows + GoldenFile.streamed + GoldenFile.prepared

    @Test(arguments: files) func everyTruncationThrowsAndChangesNothing(name: String) throws {
        let file = try GoldenFile(name)
        var decoder = file.decoder
        var arena = ChangeArena()
        var (survivors, changes) = (0, 0)
        for message in file.messages {
            let (byteCount, cellCount) = (arena.bytes.count, arena.cells.count)
            let wasInStream = decoder.isInStream
            for length in 0..<message.count where length < 400 || length == message.count - 1 {
                var attempt = decoder
                do throws(WireError) {
                    _ = try attempt.decode(message, 0..<length, into: &arena)
                    survivors += 1
                } catch {
                    let isUnchanged = arena.bytes.count == byteCount && arena.cells.count == cellCount
                    if !isUnchanged || attempt.isInStream != wasInStream { changes += 1 }
                }
            }
            _ = try decoder.decode(message, message.indices, into: &arena)
        }
        #expect(survivors == 0)
        #expect(changes == 0)
    }

    @Test func aBadStreamStopLeavesTheDecoderInTheStream() throws {
        var decoder = PGOutputDecoder(protocolVersion: 2)
        var arena = ChangeArena()
        let start: [UInt8] = [UInt8(ascii: "S"), 0, 0, 0, 7, 1]
        _ = try decoder.decode(start, start.indices, into: &arena)
        #expect(decoder.isInStream)
        let stop: [UInt8] = [UInt8(ascii: "E"), 0]
        #expect(throws: WireError.trailingBytes(message: UInt8(ascii: "E"), count: 1)) {
            try decoder.decode(stop, stop.indices, into: &arena)
        }
        #expect(decoder.isInStream)
        _ = try decoder.decode(stop, 0..<1, into: &arena)
        #expect(!decoder.isInStream)
    }

    /// Both files come from one slot, peeked at twice: the same messages, once in each format.
    @Test(arguments: [15, 16, 18]) func binaryColumnsHoldWhatTextColumnsSay(version: Int) throws {
        let texts = try columns("pg\(version)-rows-text")
        let binaries = try columns("pg\(version)-rows-binary")
        #expect(texts.count > 50)
        #expect(texts == binaries)
    }

    /// The column values of all rows as text; integers of binary rows are read from their four bytes.
    private func columns(_ name: String) throws -> [String] {
        let (messages, arena) = try GoldenFile(name).decode()
        var relations: [UInt32: RelationMessage] = [:]
        var result: [String] = []
        func append(_ relation: UInt32, _ tuple: TupleReference) throws {
            let table = try #require(relations[relation])
            #expect(table.columns.count == tuple.count)
            for (column, index) in zip(table.columns, tuple.cells) {
                let cell = arena.cells[index]
                let value = arena.bytes[cell.offset..<(cell.offset + Int(cell.length))]
                switch cell.kind {
                case .null: result.append("NULL")
                case .unchanged: result.append("unchanged")
                case .binary where column.typeOID == 23:
                    let bits = value.reduce(UInt32(0)) { $0 &* 256 &+ UInt32($1) }
                    result.append("\(Int32(bitPattern: bits))")
                case .text, .binary: result.append("'" + String(decoding: value, as: UTF8.self))
                }
                if cell.kind == .text, column.typeOID == 23 { result[result.count - 1].removeFirst() }
            }
        }
        for message in messages {
            switch message {
            case .relation(let relation, _): relations[relation.id] = relation
            case .insert(let id, let new, _): try append(id, new)
            case .update(let id, let old, let new, _):
                if let old { try append(id, old.tuple) }
                try append(id, new)
            case .delete(let id, let old, _): try append(id, old.tuple)
            default: break
            }
        }
        return result
    }
}
