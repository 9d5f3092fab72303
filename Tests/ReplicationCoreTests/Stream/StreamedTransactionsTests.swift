import Testing

@testable import ReplicationCore

@Suite struct StreamedTransactionsTests {
    private typealias B = StreamBytes
    private typealias Transaction = StreamIntake.Transaction
    private let table = ["id"]

    @Test func streamedTransactionIsAppliedAtItsCommitAndNotBefore() throws {
        var intake = StreamIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7),
            B.stop,
        ])
        try intake.read([
            B.relation(1, "t", columns: table), B.begin(8, at: 100), B.insert(1, ["b"]), B.commit(at: 100),
        ])
        intake.take()
        #expect(intake.committed == [Transaction(xid: 8, rows: ["t(id) b"])])
        try intake.read([B.start(7, first: false), B.insert(1, ["c"], xid: 7), B.stop, B.commit(7, at: 200)])
        intake.take()
        #expect(intake.committed.last == Transaction(xid: 7, rows: ["t(id) a", "t(id) c"]))
        #expect(intake.streamed.count == 0)
        #expect(intake.streamed.sizeBytes == 0)
    }

    // MARK: applied while they run

    private func earlyIntake(cutBytes: Int = 1) -> StreamIntake {
        var intake = StreamIntake(cutBytes: cutBytes)
        intake.early = EarlyReplay(fromLSN: .zero)
        return intake
    }

    @Test func transactionIsHandedOverBeforeItsCommitAndCommitsWithIt() throws {
        var intake = earlyIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7), B.stop,
        ])
        let first = intake.assembler.take()
        let piece = try #require(first)
        #expect(piece.isEarly && piece.isOpenEnded && piece.changes.count == 1)
        try intake.read([B.start(7, first: false), B.insert(1, ["b"], xid: 7), B.stop, B.commit(7, at: 200)])
        let last = intake.assembler.take()
        let rest = try #require(last)
        #expect(!rest.isEarly && rest.transactions.first?.commitLSN == LSN(200) && rest.changes.count == 1)
        #expect(rest.transactions.first?.precedingCount == 1)
        #expect(intake.earlyCommits == 1 && intake.streamed.count == 0)
    }

    @Test func anothersCommitHasItTakenBackAndItComesWholeAtItsOwn() throws {
        var intake = earlyIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7), B.stop,
        ])
        intake.take()
        try intake.read([B.relation(1, "t", columns: table), B.begin(8, at: 100), B.insert(1, ["b"]), B.commit(at: 100)])
        intake.take()
        #expect(intake.retracted == 1 && intake.committed == [Transaction(xid: 8, rows: ["t(id) b"])])
        // From its middle it is not begun again.
        try intake.read([B.start(7, first: false), B.insert(1, ["c"], xid: 7), B.stop])
        #expect(intake.assembler.take() == nil)
        try intake.read(B.commit(7, at: 200))
        intake.take()
        #expect(intake.committed.last == Transaction(xid: 7, rows: ["t(id) a", "t(id) c"]))
        #expect(intake.earlyCommits == 0)
    }

    @Test func heartbeatIsPassedOverAndAMarkerIsNot() throws {
        for (content, gaveWay) in [("5 worker", 0), ("5 marker", 1)] {
            var intake = earlyIntake()
            try intake.read([
                B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7), B.stop,
            ])
            intake.take()
            try intake.read([B.begin(8, at: 100), B.message("lindero.heartbeat", content), B.commit(at: 100)])
            intake.take()
            #expect(intake.retracted == gaveWay)
            #expect(intake.early?.holdsHeartbeat == (gaveWay == 0))
            try intake.read(B.commit(7, at: 200))
            intake.take()
            #expect(intake.committed.last == Transaction(xid: 7, rows: ["t(id) a"]))
            #expect(intake.earlyCommits == 1 - gaveWay)
        }
    }

    /// It begins like a heartbeat, and its row must not be cut off with what is taken back.
    @Test func rowsOfTheOneThatComesBetweenStay() throws {
        var intake = earlyIntake(cutBytes: 1 << 20)
        try intake.read([B.relation(1, "t", columns: table), B.begin(5, at: 90), B.insert(1, ["x"]), B.commit(at: 90)])
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7), B.stop,
            B.begin(8, at: 100), B.message("lindero.heartbeat", "5 worker"), B.insert(1, ["b"]), B.commit(at: 100),
        ])
        intake.take()
        #expect(intake.committed.map(\.rows) == [["t(id) x"], ["t(id) b"]])
        #expect(intake.heartbeats == [5])
    }

    @Test func whatASavepointTookBackTheTargetTakesBackWithTheRest() throws {
        var intake = earlyIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7),
            B.insert(1, ["gone"], xid: 9), B.stop,
        ])
        intake.take()
        try intake.read(B.abort(7, 9))
        try intake.read(B.commit(7, at: 200))
        intake.take()
        #expect(intake.retracted == 1 && intake.committed == [Transaction(xid: 7, rows: ["t(id) a"])])
    }

    @Test func oneThatMayBeOnTheTargetAlreadyIsNotHandedOver() throws {
        var intake = StreamIntake(cutBytes: 1)
        intake.early = EarlyReplay(fromLSN: LSN(2))
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7), B.stop,
        ])
        #expect(intake.assembler.take() == nil)
    }

    @Test func rolledBackSavepointLeavesNothingAndTheRestStays() throws {
        var intake = StreamIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7),
        ])
        try intake.read([
            B.insert(1, ["sub"], xid: 8), B.insert(1, ["child"], xid: 9), B.insert(1, ["sub again"], xid: 8),
            B.stop,
        ])
        try intake.read([B.abort(7, 9), B.abort(7, 8)])
        try intake.read([
            B.start(7, first: false), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["z"], xid: 7),
            B.stop,
        ])
        try intake.read(B.commit(7, at: 200))
        intake.take()
        #expect(intake.committed == [Transaction(xid: 7, rows: ["t(id) a", "t(id) z"])])
    }

    /// The child's messages came first; the parent that took it over must take it along.
    @Test func abortOfAParentTakesAReleasedChildThatBeganBeforeIt() throws {
        var intake = StreamIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7), B.insert(1, ["a"], xid: 7),
        ])
        try intake.read([
            B.insert(1, ["child"], xid: 9), B.insert(1, ["parent"], xid: 8), B.stop, B.abort(7, 8),
            B.commit(7, at: 200),
        ])
        intake.take()
        #expect(intake.committed == [Transaction(xid: 7, rows: ["t(id) a"])])
    }

    @Test func abortedTransactionLeavesNothingNotEvenItsDefinitions() throws {
        var intake = StreamIntake(limitBytes: 1_000)
        try intake.read([
            B.relation(1, "t", columns: table), B.begin(5, at: 90), B.insert(1, ["x"]), B.commit(at: 90),
        ])
        try intake.read([B.start(7, first: true), B.relation(1, "t", columns: ["id", "new"], xid: 7)])
        for number in 0..<100 { try intake.read(B.insert(1, ["\(number)", "n"], xid: 7)) }
        try intake.read(B.stop)
        #expect(intake.files[7] != nil)
        try intake.read(B.abort(7, 7))
        #expect(intake.files.isEmpty)
        try intake.read([B.begin(8, at: 100), B.insert(1, ["y"]), B.commit(at: 100)])
        intake.take()
        #expect(intake.committed.map(\.rows) == [["t(id) x"], ["t(id) y"]])
    }

    @Test func definitionOfACommittedTransactionHoldsForThoseThatFollow() throws {
        var intake = StreamIntake()
        try intake.read([
            B.relation(1, "t", columns: table), B.begin(5, at: 90), B.insert(1, ["x"]), B.commit(at: 90),
        ])
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: ["id", "new"], xid: 7),
            B.insert(1, ["1", "n"], xid: 7), B.stop,
        ])
        try intake.read([
            B.commit(7, at: 100), B.begin(8, at: 110), B.insert(1, ["2", "m"]), B.commit(at: 110),
        ])
        intake.take()
        #expect(intake.committed.map(\.rows) == [["t(id) x"], ["t(id,new) 1,n"], ["t(id,new) 2,m"]])
    }

    @Test func newerDefinitionOutlivesTheCommitOfAnOlder() throws {
        var intake = StreamIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: ["id", "old"], xid: 7),
            B.insert(1, ["1", "o"], xid: 7), B.stop,
        ])
        try intake.read([
            B.relation(1, "t", columns: table), B.begin(8, at: 90), B.insert(1, ["x"]), B.commit(at: 90),
        ])
        try intake.read([B.commit(7, at: 100), B.begin(9, at: 110), B.insert(1, ["y"]), B.commit(at: 110)])
        intake.take()
        #expect(intake.committed.map(\.rows) == [["t(id) x"], ["t(id,old) 1,o"], ["t(id) y"]])
        #expect(intake.assembler.relations.count <= 2)
    }

    @Test func definitionFromARolledBackSavepointIsNotUsed() throws {
        var intake = StreamIntake()
        try intake.read([
            B.start(7, first: true), B.relation(1, "t", columns: ["id", "sub"], xid: 8),
            B.insert(1, ["1", "s"], xid: 8), B.stop,
        ])
        try intake.read([
            B.abort(7, 8), B.start(7, first: false), B.relation(1, "t", columns: table, xid: 7),
            B.insert(1, ["2"], xid: 7), B.stop,
        ])
        try intake.read([B.commit(7, at: 100), B.begin(9, at: 110), B.insert(1, ["y"]), B.commit(at: 110)])
        intake.take()
        #expect(intake.committed.map(\.rows) == [["t(id) 2"], ["t(id) y"]])
    }

    @Test func emptySegmentsOriginsAndMessagesAreRead() throws {
        var intake = StreamIntake()
        let beat = Heartbeat.content(sequence: 12, worker: "w")
        try intake.read([
            B.start(7, first: true), B.origin("elsewhere"), B.stop, B.start(7, first: false), B.stop,
        ])
        try intake.read([
            B.start(7, first: false), B.message("other", "x", xid: 7),
            B.message(Heartbeat.messagePrefix, beat, xid: 7), B.stop,
        ])
        try intake.read(B.commit(7, at: 100))
        intake.take()
        #expect(intake.committed == [Transaction(xid: 7, rows: [])])
        #expect(intake.origins == ["elsewhere"])
        #expect(intake.heartbeats == [12])
    }

    @Test func memoryStaysWithinTheLimitWithManyTransactionsAtATime() throws {
        let limit = 256 << 10
        var intake = StreamIntake(limitBytes: limit)
        let xids = (1...200).map { UInt32($0 * 10) }
        for round in 0..<20 {
            for xid in xids {
                try intake.read(B.start(xid, first: round == 0))
                if round == 0 { try intake.read(B.relation(1, "t", columns: table, xid: xid)) }
                for row in 0..<5 {
                    try intake.read(
                        B.insert(1, [String(repeating: "v", count: 100) + "\(round).\(row)"], xid: xid))
                }
                try intake.read(B.stop)
            }
        }
        #expect(intake.spills > 20)
        #expect(intake.mostBytes <= limit)
        for (index, xid) in xids.enumerated() {
            try intake.read(B.commit(xid, at: UInt64(1_000 + index * 100)))
        }
        intake.take()
        #expect(intake.committed.count == 200)
        #expect(
            intake.committed.allSatisfy { $0.rows.count == 100 && $0.rows.last?.hasSuffix("v19.4") == true })
        #expect(intake.files.isEmpty)
    }

    @Test func subtransactionsOfManyTransactionsShareTheMemoryToo() throws {
        let limit = 64 << 10
        var intake = StreamIntake(limitBytes: limit)
        var nextXID: UInt32 = 1_000
        var tops: [UInt32] = []
        for _ in 0..<20 {
            nextXID += 1
            let top = nextXID
            tops.append(top)
            try intake.read([B.start(top, first: true), B.relation(1, "t", columns: table, xid: top)])
            for row in 0..<900 {
                nextXID += 1
                try intake.read(B.insert(1, ["\(row)"], xid: nextXID))
            }
            try intake.read(B.stop)
            // The youngest are still known.
            try intake.read(B.abort(top, nextXID))
        }
        #expect(intake.mostBytes <= limit + 20 * 1_024)
        #expect(throws: StreamError.tooManySubtransactions(xid: tops[0])) {
            try intake.read(B.abort(tops[0], tops[0] + 1))
        }
        for (index, top) in tops.enumerated().dropFirst() {
            try intake.read(B.commit(top, at: UInt64(1_000 + index * 100)))
        }
        intake.take()
        #expect(intake.committed.map(\.rows.count) == Array(repeating: 899, count: 19))
    }

    @Test(arguments: ["torn", "altered", "stale", "gone"]) func damagedFileIsRefused(how: String) throws {
        var intake = StreamIntake(limitBytes: 1_000)
        try intake.read([B.start(7, first: true), B.relation(1, "t", columns: table, xid: 7)])
        for number in 0..<500 { try intake.read(B.insert(1, ["row \(number)"], xid: 7)) }
        try intake.read(B.stop)
        #expect(intake.spills > 2)
        intake.tamper = { frames in
            var frames = frames
            switch how {
            case "torn": frames.removeLast()
            case "altered": frames[frames.count - 1] ^= 4
            case "gone": frames.removeAll()
            // Of an earlier write to this place: right in itself.
            default: frames[8] ^= 1
            }
            return frames
        }
        #expect(throws: SpillFrame.Damage.self) { try intake.read(B.commit(7, at: 100)) }
    }

    @Test func streamsThatBreakTheRulesAreRefused() throws {
        var intake = StreamIntake()
        #expect(throws: StreamError.self) { try intake.read(B.start(7, first: false)) }
        #expect(throws: StreamError.self) { try intake.read(B.commit(7, at: 1)) }
        try intake.read(B.start(7, first: true))
        #expect(throws: StreamError.self) { try intake.read(B.begin(8, at: 1)) }
        #expect(throws: WireError.self) { try intake.read([UInt8(ascii: "I"), 0, 0]) }
        try intake.read(B.stop)
        #expect(throws: StreamError.self) { try intake.read(B.start(7, first: true)) }
    }

    @Test func checksumIsXXH64() {
        func sum(_ text: String) -> UInt64 { Array(text.utf8).withUnsafeBytes { Checksum.of($0, seed: 0) } }
        #expect(sum("") == 0xEF46_DB37_51D8_E999)
        #expect(sum("a") == 0xD24E_C4F1_A98C_6E5B)
        #expect(sum("abc") == 0x44BC_2CF5_AD77_0999)
        // Longer than a stripe.
        #expect(sum("Nobody inspects the spammish repetition") == 0xFBCE_A83C_8A37_8BF1)
    }
}

@Suite struct SubtransactionStackTests {
    @Test func youngerOnesEndWithTheMessageOfAnOlder() {
        var stack = SubtransactionStack(limit: 100)
        stack.note(11, top: 10, at: 100)
        stack.note(12, top: 10, at: 200)
        stack.note(11, top: 10, at: 300)
        stack.note(13, top: 10, at: 400)
        #expect(stack.abort(12) == .from(400))
        #expect(stack.abort(11) == .from(100))
        #expect(stack.abort(11) == .nothing)
    }

    @Test func whatTheTransactionItselfTookOverIsForgotten() {
        var stack = SubtransactionStack(limit: 100)
        stack.note(11, top: 10, at: 100)
        stack.note(10, top: 10, at: 200)
        #expect(stack.abort(11) == .nothing)
    }

    @Test func idsWrapAround() {
        var stack = SubtransactionStack(limit: 100)
        stack.note(.max, top: .max - 1, at: 100)
        stack.note(3, top: .max - 1, at: 200)
        #expect(stack.abort(3) == .from(200))
        #expect(stack.abort(.max) == .from(100))
    }

    @Test func beyondItsLimitTheYoungestAreStillKnown() {
        var stack = SubtransactionStack(limit: 8)
        for xid in 11...30 { stack.note(UInt32(xid), top: 10, at: xid * 100) }
        #expect(stack.abort(30) == .from(3_000))
        #expect(stack.abort(29) == .from(2_900))
        #expect(stack.abort(11) == .unknown)
        stack.note(10, top: 10, at: 9_000)
        #expect(stack.abort(11) == .nothing)
    }
}
