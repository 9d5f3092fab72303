import Testing

@testable import ReplicationCore

/// Bytes that no server would send: a typed error, never a trap, and nothing taken.
@Suite struct HostileBytesTests {
    /// The same numbers for the same seed.
    struct SeededGenerator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state ^= state << UInt64(13)
            state ^= state >> UInt64(7)
            state ^= state << UInt64(17)
            return state
        }
    }

    @Test func hundredThousandMutationsNeverTrapAndLeaveTheArenaAlone() throws {
        let seed = UInt64.random(in: 1...UInt64.max)
        var random = SeededGenerator(state: seed)
        let pool = try (GoldenFile.rows + ["pg18-parallel"] + GoldenFile.prepared).flatMap { try GoldenFile($0).messages }
            .filter { $0.count < 600 }
        #expect(pool.count > 300)
        var (accepted, refused) = (0, 0)
        var arena = ChangeArena()
        for _ in 0..<100_000 {
            var bytes = pool[Int.random(in: 0..<pool.count, using: &random)]
            mutate(&bytes, pool, &random)
            var decoder = PGOutputDecoder(protocolVersion: 4, isParallelStreaming: Bool.random(using: &random))
            if arena.bytes.count > 1 << 20 { arena.removeAll() }
            let (byteCount, cellCount) = (arena.bytes.count, arena.cells.count)
            do {
                _ = try decoder.decode(bytes, 0..<bytes.count, into: &arena)
                accepted += 1
                for cell in arena.cells[cellCount...] where cell.kind == .text || cell.kind == .binary {
                    #expect(cell.offset + Int(cell.length) <= arena.bytes.count, "seed \(seed)")
                }
            } catch {
                refused += 1
                #expect(arena.bytes.count == byteCount && arena.cells.count == cellCount, "seed \(seed)")
            }
        }
        #expect(accepted > 1_000 && refused > 10_000, "seed \(seed)")
    }

    private func mutate(_ bytes: inout [UInt8], _ pool: [[UInt8]], _ random: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            guard !bytes.isEmpty else { return }
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
            case 1: bytes.removeSubrange(place...)
            case 2: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 3:
                // A length field made negative, huge or nothing.
                let value: [UInt8] = [[255, 255, 255, 255], [127, 255, 255, 255], [0, 0, 0, 0]].randomElement(using: &random) ?? []
                bytes.replaceSubrange(place..<min(bytes.count, place + 4), with: value)
            case 4: bytes.append(contentsOf: pool[Int.random(in: 0..<pool.count, using: &random)].prefix(40))
            default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
            }
        }
    }

    @Test func truncatedMessagesNameTheirKind() throws {
        for message in try GoldenFile("pg15-rows-text").messages where message.count > 2 {
            var decoder = PGOutputDecoder(protocolVersion: 1)
            var arena = ChangeArena()
            for length in [1, message.count / 2, message.count - 1] {
                #expect(throws: WireError.self) { _ = try decoder.decode(message, 0..<length, into: &arena) }
            }
        }
    }

    @Test func framesAreParsedOrRefused() throws {
        var keepalive: [UInt8] = [UInt8(ascii: "k")]
        keepalive += [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 1]
        #expect(
            try ReplicationFrame(keepalive, 0..<keepalive.count)
                == .keepalive(endLSN: LSN(0x1_0000_0002), sentAt: PostgresTime(microseconds: 9), replyRequested: true))
        #expect(throws: WireError.self) { _ = try ReplicationFrame(keepalive, 0..<10) }
        #expect(throws: WireError.unknownMessage(1)) { _ = try ReplicationFrame([1, 2], 0..<2) }
        #expect(throws: WireError.self) { _ = try ReplicationFrame([], 0..<0) }
        let data: [UInt8] = [UInt8(ascii: "w")] + [UInt8](repeating: 0, count: 24) + [66, 67]
        #expect(
            try ReplicationFrame(data, 0..<data.count)
                == .xLogData(startLSN: .zero, endLSN: .zero, sentAt: PostgresTime(microseconds: 0), payload: 25..<27))
    }
}
