import Testing

@testable import ReplicationCore

@Suite struct CopyEncoderTests {
    private static let header: [UInt8] = Array("PGCOPY\n".utf8) + [0xff, 0x0d, 0x0a] + [UInt8](repeating: 0, count: 9)

    private func columns(_ sourceIndexes: [Int]) -> [RelationPlan.Column] {
        sourceIndexes.map {
            RelationPlan.Column(sourceIndex: $0, ColumnDescription(name: "c\($0)", type: "text", typeOID: 25, baseTypeOID: 25), isBinary: true)
        }
    }

    /// A chunk of rows of three columns; `nil` is NULL.
    private func chunk(_ rows: [[String?]]) -> ChangeChunk {
        var chunk = ChangeChunk()
        for row in rows {
            for value in row {
                guard let value else {
                    chunk.arena.cells.append(Cell(kind: .null))
                    continue
                }
                chunk.arena.cells.append(
                    Cell(kind: .binary, offset: chunk.arena.bytes.count, length: Int32(value.utf8.count)))
                chunk.arena.bytes += Array(value.utf8)
            }
        }
        return chunk
    }

    private func field(_ value: String?) -> [UInt8] {
        guard let value else { return [0xff, 0xff, 0xff, 0xff] }
        return [0, 0, 0, UInt8(value.utf8.count)] + Array(value.utf8)
    }

    /// Everything that an encoder writes, piece by piece.
    private func write(_ encoder: CopyEncoder, _ pieceBytes: Int) -> (all: [UInt8], pieces: Int) {
        var encoder = encoder
        var (all, pieces, hasMore): ([UInt8], Int, Bool) = ([], 0, true)
        while hasMore {
            var piece: [UInt8] = []
            hasMore = encoder.write(to: &piece, pieceBytes: pieceBytes)
            all += piece
            pieces += 1
        }
        return (all, pieces)
    }

    @Test func rowsAreWrittenColumnByColumnInTheStatementsOrder() {
        let chunk = chunk([["a", nil, "ccc"], ["", "b", "d"]])
        let rows = [RowSource(chunk: 0, first: 3), RowSource(chunk: 0, first: 0)]
        var encoder = CopyEncoder(columns: columns([2, 1]), rows: rows, plan: GroupPlan(), chunks: [chunk])
        var piece: [UInt8] = []
        #expect(!encoder.write(to: &piece, pieceBytes: 1 << 20))
        let expected = Self.header + [0, 2] + field("d") + field("b") + [0, 2] + field("ccc") + field(nil) + [0xff, 0xff]
        #expect(piece == expected)
    }

    @Test func piecesOfAnySizeAreTheSameBytes() {
        let chunk = chunk((0..<50).map { ["\($0)", $0 % 3 == 0 ? nil : String(repeating: "x", count: $0), "end"] })
        let rows = (0..<50).map { RowSource(chunk: 0, first: 3 * $0) }
        func bytes(_ pieceBytes: Int) -> (all: [UInt8], pieces: Int) {
            write(CopyEncoder(columns: columns([0, 1, 2]), rows: rows, plan: GroupPlan(), chunks: [chunk]), pieceBytes)
        }
        let whole = bytes(1 << 20)
        #expect(whole.pieces == 1)
        for size in [1, 30, 200] {
            let cut = bytes(size)
            #expect(cut.pieces > 1)
            #expect(cut.all == whole.all)
        }
    }

    @Test func mergedRowsTakeTheirCellsFromWhereverTheyAre() {
        var plan = GroupPlan()
        plan.mergedRows = [[CellLocation(chunk: 1, cell: 0), CellLocation(chunk: 0, cell: 1)]]
        let chunks = [chunk([["a", "b", "c"]]), chunk([["A", "B", "C"]])]
        var encoder = CopyEncoder(
            columns: columns([0, 1]), rows: [RowSource(chunk: -1, first: 0)], plan: plan, chunks: chunks)
        var piece: [UInt8] = []
        #expect(!encoder.write(to: &piece, pieceBytes: 1 << 20))
        #expect(piece == Self.header + [0, 2] + field("A") + field("b") + [0xff, 0xff])
    }

    @Test func rowsOfSeveralChunksAndMergedOnesKeepTheirOrderInPiecesOfAnySize() {
        var plan = GroupPlan()
        plan.mergedRows = [[CellLocation(chunk: 1, cell: 0), CellLocation(chunk: 0, cell: 1), CellLocation(chunk: 0, cell: 2)]]
        let chunks = [chunk([["a", "b", "c"], ["d", nil, "f"]]), chunk([["A", "B", "C"]])]
        let places = [(0, 0), (0, 3), (1, 0), (-1, 0), (0, 0), (1, 0), (1, 0)]
        let rows = places.map { RowSource(chunk: Int32($0.0), first: $0.1) }
        let values = [["a", "b", "c"], ["d", nil, "f"], ["A", "B", "C"], ["A", "b", "c"], ["a", "b", "c"], ["A", "B", "C"], ["A", "B", "C"]]
        let expected = Self.header + values.flatMap { [0, 3] + $0.flatMap(field) } + [0xff, 0xff]
        for size in [1, 20, 45, 1 << 20] {
            let encoder = CopyEncoder(columns: columns([0, 1, 2]), rows: rows, plan: plan, chunks: chunks)
            #expect(write(encoder, size).all == expected, "pieces of \(size)")
        }
    }
}
