/// How far the initial copy is: first the data, then the indexes.
public struct CopyProgress: Sendable, Equatable {
    public enum Step: Sendable { case data, indexes }

    public var step = Step.data
    public var tablesDone = 0
    public var tablesTotal = 0
    public var rows = 0
    public var bytes = 0
    /// The source's heaps: what is copied, and all of them. What an earlier run copied is in both.
    public var sizeDone = 0
    public var sizeTotal = 0
    /// Of `sizeDone`, by an earlier run.
    public var sizeBefore = 0
    /// Keys, other constraints and indexes of the target.
    public var indexesDone = 0
    public var indexesTotal = 0
    /// The source's indexes, as bytes on disk.
    public var indexSizeDone = 0
    public var indexSizeTotal = 0
    /// Since the step began.
    public var elapsedMilliseconds: Int64 = 0

    public init() {}

    public var bytesPerSecond: Double {
        step == .data && elapsedMilliseconds > 0 ? Double(bytes) * 1_000 / Double(elapsedMilliseconds) : 0
    }

    /// The data, 0 to 1; below 1 until the last table is done.
    public var fraction: Double {
        guard tablesDone < tablesTotal else { return 1 }
        return sizeTotal > 0 ? min(0.99, Double(sizeDone) / Double(sizeTotal)) : 0
    }

    /// The indexes, 0 to 1; below 1 until the last is built.
    public var indexFraction: Double {
        guard step == .indexes else { return 0 }
        guard indexesDone < indexesTotal else { return 1 }
        return indexSizeTotal > 0 ? min(0.99, Double(indexSizeDone) / Double(indexSizeTotal)) : 0
    }

    /// Until the end of the step; `nil` until there is a rate.
    public var etaSeconds: Double? {
        let (done, before, total) =
            step == .data ? (sizeDone, sizeBefore, sizeTotal) : (indexSizeDone, 0, indexSizeTotal)
        if step == .data ? tablesDone == tablesTotal : indexesDone == indexesTotal { return 0 }
        guard elapsedMilliseconds > 0, done > before else { return nil }
        return Double(max(0, total - done)) * Double(elapsedMilliseconds) / 1_000 / Double(done - before)
    }
}
