import ReplicationCore
import Testing

@Suite struct RecheckTests {
    private let old = RowReading(version: "t1", columns: ["a", "b"])
    private let oldAgain = RowReading(version: "t2", columns: ["a", "b"])
    private let new = RowReading(version: "s1", columns: ["a", "c"])

    private func verdict(_ before: RowReading?, _ source: RowReading?, _ after: RowReading?) -> Recheck.Verdict {
        Recheck(targetBefore: before, source: source, targetAfter: after).verdict
    }

    @Test func whatIsTheSameIsEqualWhoeverWroteIt() {
        #expect(verdict(nil, nil, nil) == .equal)
        #expect(verdict(old, nil, nil) == .equal)
        #expect(verdict(old, RowReading(version: "s", columns: ["a", "b"]), old) == .equal)
        #expect(verdict(nil, new, RowReading(version: "t9", columns: new.columns)) == .equal)
    }

    @Test func rowThatNobodyWroteMeanwhileIsDifferent() {
        #expect(verdict(old, new, old) == .differs(.changed, columns: [1]))
        #expect(verdict(old, nil, old) == .differs(.extra, columns: []))
    }

    @Test func rowThatWasWrittenMeanwhileIsLookedAtAgain() {
        #expect(verdict(old, new, oldAgain) == .again)
        #expect(verdict(nil, new, old) == .again)
        #expect(verdict(nil, nil, old) == .again)
        #expect(verdict(old, nil, oldAgain) == .again)
        // It was there and is gone: deleted after the source was read, or about to come again.
        #expect(verdict(old, new, nil) == .again)
    }

    @Test func rowThatTheTargetLacksIsMissingOnlyWhenTheSourceStillHasTheSame() {
        let recheck = Recheck(targetBefore: nil, source: new, targetAfter: nil)
        #expect(recheck.verdict == .askSource)
        #expect(recheck.verdict(sourceAfter: new) == .differs(.missing, columns: []))
        #expect(recheck.verdict(sourceAfter: nil) == .again)
        #expect(recheck.verdict(sourceAfter: RowReading(version: "s2", columns: new.columns)) == .again)
        // Where the first readings decide, the last one says nothing.
        #expect(Recheck(targetBefore: old, source: new, targetAfter: old).verdict(sourceAfter: nil)
            == .differs(.changed, columns: [1]))
    }

    /// A source, a stream that carries whole changes in order, a target; readings at any moment between. Whatever is
    /// written, a row that the stream keeps right is never called different, and one that was spoilt and left alone is.
    @Test(arguments: [3, 65_537, 2_147_483_647] as [UInt64])
    func changesOnTheirWayAreNeverDifferences(_ seed: UInt64) {
        var random = SplitMix(state: seed)
        var undecided = 0
        for round in 0..<20_000 {
            var model = StreamModel(random: SplitMix(state: random.next()), busy: round % 4)
            let (spoilt, verdict) = model.recheck(spoils: round % 5 == 0)
            switch verdict {
            case .differs: #expect(spoilt, "seed \(seed), round \(round)")
            case .equal: break
            case .again, .askSource: undecided += 1
            }
            if spoilt, model.writes == 0 {
                #expect(verdict != .equal && verdict != .again, "seed \(seed), round \(round)")
            }
        }
        #expect(undecided > 0)
    }
}

/// One row on both sides of a stream.
private struct StreamModel {
    var random: SplitMix
    /// How many writes there may be between two readings.
    let busy: Int
    var writes = 0
    private var source: (value: Int, version: Int)? = (1, 0)
    private var target: (value: Int, version: Int)? = (1, 0)
    private var queue: [Int?] = []
    private var clock = 0

    init(random: SplitMix, busy: Int) {
        self.random = random
        self.busy = busy
    }

    mutating func recheck(spoils: Bool) -> (spoilt: Bool, verdict: Recheck.Verdict) {
        live()
        var spoilt = false
        if spoils {
            // Behind the stream's back, and on a row that the stream then leaves alone.
            while !queue.isEmpty { applyOne() }
            clock += 1
            target = random.next() % 2 == 0 ? nil : (7, 1_000_000 + clock)
            spoilt = target?.value != source?.value
            writes = 0
        }
        let before = reading(target, "t")
        live()
        let first = reading(source, "s")
        let marker = queue.count
        var passed = 0
        while passed < marker {
            if random.next() % 3 == 0 { live(&passed) }
            if passed < marker { applyOne(); passed += 1 }
        }
        live()
        let after = reading(target, "t")
        live()
        let last = reading(source, "s")
        let recheck = Recheck(targetBefore: before, source: first, targetAfter: after)
        // A spoilt row that is written again proves nothing either way.
        return (spoilt || spoils && writes > 0, recheck.verdict(sourceAfter: last))
    }

    private func reading(_ row: (value: Int, version: Int)?, _ side: String) -> RowReading? {
        row.map { RowReading(version: "\(side)\($0.version)", columns: ["\($0.value)"]) }
    }

    private mutating func live() {
        var passed = 0
        live(&passed)
    }

    private mutating func live(_ passed: inout Int) {
        guard busy > 0 else { return }
        for _ in 0..<(random.next() % UInt64(busy * 2)) {
            if random.next() % 2 == 0 { write() } else if !queue.isEmpty { applyOne(); passed += 1 }
        }
    }

    private mutating func write() {
        clock += 1
        writes += 1
        source = random.next() % 3 == 0 ? nil : (Int(random.next() % 3), clock)
        queue.append(source?.value)
    }

    private mutating func applyOne() {
        clock += 1
        target = queue.removeFirst().map { ($0, clock) }
    }
}
