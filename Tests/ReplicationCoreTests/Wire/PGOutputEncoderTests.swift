import Testing

@testable import ReplicationCore

/// What is kept of a change is the change: encoded again, real servers' messages are what they were.
@Suite struct PGOutputEncoderTests {
    @Test func everyGoldenRowMessageComesBackByteForByte() throws {
        var count = 0
        for name in GoldenFile.rows {
            var decoder = PGOutputDecoder(protocolVersion: 1)
            for message in try GoldenFile(name).messages {
                var arena = ChangeArena()
                // Streamed transactions carry their id in each message; such files are not protocol 1.
                guard let decoded = try? decoder.decode(message, message.indices, into: &arena), !decoder.isInStream else { continue }
                let again: [UInt8]?
                switch decoded {
                case .relation(let relation, nil): again = PGOutputEncoder.relation(relation)
                case .insert(let id, let new, nil):
                    again = PGOutputEncoder.change(Change(kind: .insert, relation: 0, new: new), relation: id, arena: arena)
                case .update(let id, let old, let new, nil):
                    again = PGOutputEncoder.change(Change(kind: .update, relation: 0, old: old, new: new), relation: id, arena: arena)
                case .delete(let id, let old, nil):
                    again = PGOutputEncoder.change(Change(kind: .delete, relation: 0, old: old), relation: id, arena: arena)
                default: continue
                }
                #expect(again == message)
                count += 1
            }
        }
        #expect(count > 50)
    }
}
