import ReplicationCore
import Testing

@Suite struct ChunkWalkTests {
    private func key(_ number: Int) -> VerifyKey { VerifyKey(["\(number)"]) }

    @Test func stretchesCoverEverythingWithoutAGap() {
        var walk = ChunkWalk(chunkRows: 10)
        #expect(walk.add(border: key(10)).range == KeyRange(after: nil, through: key(10)))
        #expect(walk.add(border: key(20)).range == KeyRange(after: key(10), through: key(20)))
        #expect(!walk.isAtEnd)
        #expect(walk.add(border: nil).range == KeyRange(after: key(20), through: nil))
        #expect(walk.isAtEnd && !walk.isComplete)
    }

    @Test func positionNeverPassesAStretchThatIsStillAtWork() {
        var walk = ChunkWalk(chunkRows: 10)
        let first = walk.add(border: key(10))
        let second = walk.add(border: key(20))
        let third = walk.add(border: nil)
        walk.finish(second.id, second.range, rows: 10, bytes: 100)
        #expect(walk.position == nil)
        walk.finish(first.id, first.range, rows: 10, bytes: 100)
        #expect(walk.position == key(20))
        #expect(!walk.isComplete)
        walk.finish(third.id, third.range, rows: 3, bytes: 30)
        #expect(walk.isComplete)
    }

    @Test func walkBeginsWhereAnEarlierOneWas() {
        var walk = ChunkWalk(chunkRows: 10, from: key(30))
        #expect(walk.position == key(30))
        #expect(walk.add(border: nil).range == KeyRange(after: key(30), through: nil))
    }

    @Test func largeRowsMakeShortStretches() {
        var walk = ChunkWalk(chunkRows: 10_000)
        #expect(walk.nextRows == 10_000)
        let first = walk.add(border: key(1))
        walk.finish(first.id, first.range, rows: 100, bytes: 100 << 14)
        #expect(walk.nextRows == ChunkWalk.targetBytes >> 14)
        let second = walk.add(border: key(2))
        walk.finish(second.id, second.range, rows: 100, bytes: 100 << 24)
        #expect(walk.nextRows == ChunkWalk.fewestRows)
        var small = ChunkWalk(chunkRows: 7)
        let only = small.add(border: key(1))
        small.finish(only.id, only.range, rows: 7, bytes: 7 << 24)
        #expect(small.nextRows == 7)
    }

    /// The promise on which the comparison of two sides with different orders rests: no row is outside of every stretch.
    @Test(arguments: [11, 4_711, 982_451_653] as [UInt64])
    func rowsOfTheOtherSideAreInAStretchWhateverOrderItHasThemIn(_ seed: UInt64) {
        var random = SplitMix(state: seed)
        for _ in 0..<200 {
            // Places of keys in the other side's order.
            let place = (0..<30).map { _ in Double(random.next() % 1_000) + 0.5 }
            var walk = ChunkWalk(chunkRows: 1)
            var ranges: [KeyRange] = []
            for number in 0..<30 where random.next() % 3 == 0 { ranges.append(walk.add(border: key(number)).range) }
            ranges.append(walk.add(border: nil).range)
            for row in 0..<1_000 {
                let isCovered = ranges.contains { range in
                    let lower = range.lower.map { place[Int($0.values[0]) ?? 0] } ?? -.infinity
                    let upper = range.upper.map { place[Int($0.values[0]) ?? 0] } ?? .infinity
                    return Double(row) > lower && Double(row) <= upper
                }
                #expect(isCovered, "row \(row), seed \(seed)")
            }
        }
    }
}
