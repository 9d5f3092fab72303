import Testing

@testable import ReplicationCore

@Suite struct FlushLedgerTests {
    private func lsn(_ value: UInt64) -> LSN { LSN(value) }

    @Test func commitIsDurableOnceTheTargetsLogIsOnDiskBehindIt() {
        var ledger = FlushLedger(durableLSN: lsn(10))
        ledger.handleCommit(sourceLSN: lsn(20), targetLSN: lsn(1_000))
        #expect(ledger.durableLSN == lsn(10))
        #expect(!ledger.isSettled)
        ledger.handleFlush(targetLSN: lsn(999))
        #expect(ledger.durableLSN == lsn(10))
        ledger.handleFlush(targetLSN: lsn(1_000))
        #expect(ledger.durableLSN == lsn(20))
        #expect(ledger.isSettled)
    }

    @Test func flushInTheMiddleSettlesWhatLiesBefore() {
        var ledger = FlushLedger(durableLSN: .zero)
        for step in UInt64(1)...5 { ledger.handleCommit(sourceLSN: lsn(step), targetLSN: lsn(100 * step)) }
        ledger.handleFlush(targetLSN: lsn(350))
        #expect(ledger.durableLSN == lsn(3))
        #expect(!ledger.isSettled)
        ledger.handleFlushOfAll(upTo: lsn(5))
        #expect(ledger.durableLSN == lsn(5))
        #expect(ledger.isSettled)
    }

    @Test func aLateAnswerTakesNothingBack() {
        var ledger = FlushLedger(durableLSN: .zero)
        ledger.handleCommit(sourceLSN: lsn(7), targetLSN: lsn(100))
        ledger.handleFlush(targetLSN: lsn(200))
        ledger.handleFlush(targetLSN: lsn(50))
        #expect(ledger.durableLSN == lsn(7))
    }

    @Test func twoCommitsAtOnePlaceAreOne() {
        var ledger = FlushLedger(durableLSN: .zero)
        ledger.handleCommit(sourceLSN: lsn(1), targetLSN: lsn(100))
        ledger.handleCommit(sourceLSN: lsn(2), targetLSN: lsn(100))
        ledger.handleFlush(targetLSN: lsn(100))
        #expect(ledger.durableLSN == lsn(2))
        #expect(ledger.isSettled)
    }
}
