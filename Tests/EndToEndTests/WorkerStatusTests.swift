import Testing

@testable import Replicator
@testable import lindero

/// The line of `lindero run` on a terminal.
@Suite struct WorkerStatusTests {
    private func line(_ copy: CopyProgress) -> String {
        let state = DirectionState()
        state.set(.copying)
        state.note(copy: copy)
        return WorkerStatus.line("bot->sync", state.snapshot())
    }

    @Test func aCopyHasABarAndSoHaveTheIndexesAfterIt() {
        var copy = CopyProgress()
        (copy.tablesDone, copy.tablesTotal, copy.rows, copy.bytes) = (1, 4, 5_000, 2_000_000)
        (copy.sizeDone, copy.sizeTotal, copy.elapsedMilliseconds) = (1_000_000, 4_000_000, 10_000)
        #expect(line(copy) == "bot->sync copying [#####...............] 25%, 1/4 tables, 5000 rows, 2.0 MB, 200.0 kB/s, 30.0 s left")
        // A copy that goes on after a kill knows what it had.
        copy.sizeBefore = 500_000
        #expect(line(copy).hasSuffix("60.0 s left"))
        copy.step = .indexes
        (copy.indexesDone, copy.indexesTotal, copy.indexSizeDone, copy.indexSizeTotal) = (3, 8, 600_000, 1_200_000)
        #expect(line(copy) == "bot->sync building indexes [##########..........] 50%, 3/8 indexes and constraints, 10.0 s left")
        (copy.indexesDone, copy.indexSizeDone) = (8, 1_200_000)
        #expect(line(copy).contains("[####################] 100%, 8/8"))
    }
}
