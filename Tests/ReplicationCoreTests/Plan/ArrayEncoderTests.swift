import Testing

@testable import ReplicationCore

@Suite struct ArrayEncoderTests {
    private let columns = [2, 0].map {
        RelationPlan.Column(sourceIndex: $0, ColumnDescription(name: "c\($0)", type: "text", typeOID: 25, baseTypeOID: 25), isBinary: true)
    }

    /// A chunk of rows of three columns; `nil` is NULL.
    private func chunk(_ rows: [[String?]]) -> ChangeChunk {
        var chunk = ChangeChunk()
        for value in rows.joined() {
            guard let value else {
                chunk.arena.cells.append(Cell(kind: .null))
                continue
            }
            chunk.arena.cells.append(Cell(kind: .binary, offset: chunk.arena.bytes.count, length: Int32(value.utf8.count)))
            chunk.arena.bytes += Array(value.utf8)
        }
        return chunk
    }

    private func word(_ value: Int) -> [UInt8] { (0..<4).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }

    /// The array as PostgreSQL's `array_recv` wants it.
    private func array(_ values: [String?]) -> [UInt8] {
        word(1) + word(values.contains(nil) ? 1 : 0) + word(25) + word(values.count) + word(1)
            + values.flatMap { $0.map { word($0.utf8.count) + Array($0.utf8) } ?? word(-1) }
    }

    @Test func aColumnIsAnArrayBehindWhatIsThere() {
        let chunks = [chunk([["a", "x", nil], ["", "x", "b"]]), chunk([["cc", nil, "dd"]])]
        let rows = [RowSource(chunk: 1, first: 0), RowSource(chunk: 0, first: 3), RowSource(chunk: 0, first: 0)]
        var bytes: [UInt8] = [9]
        let lengths = ArrayEncoder(columns: columns, rows: rows[...], plan: GroupPlan(), chunks: chunks).encode(into: &bytes)
        let expected = [array(["dd", "b", nil]), array(["cc", "", "a"])]
        #expect(bytes == [9] + expected.joined())
        #expect(lengths == expected.map(\.count))
    }

    @Test func partOfTheRowsInAnyOrderWithLargeValuesAndMergedOnes() {
        let texts = (0..<200).map { [String(repeating: "k", count: $0 % 7), nil, String(repeating: "v", count: $0 * 11)] }
        let chunks = [chunk(texts)]
        var plan = GroupPlan()
        plan.mergedRows = [[0, 1, 2].map { CellLocation(chunk: 0, cell: 3 * 9 + $0) }]
        let order = (0..<200).map { ($0 * 77) % 200 }
        let rows = order.map { RowSource(chunk: 0, first: 3 * $0) } + [RowSource(chunk: -1, first: 0)]
        var bytes: [UInt8] = []
        let lengths = ArrayEncoder(columns: columns, rows: rows.dropFirst(50), plan: plan, chunks: chunks).encode(into: &bytes)
        let shown = order.dropFirst(50).map { texts[$0] } + [texts[9]]
        #expect(bytes == array(shown.map { $0[2] }) + array(shown.map { $0[0] }))
        #expect(lengths.reduce(0, +) == bytes.count)
    }
}
