/// How far the initial copy is.
public struct CopyProgress: Sendable, Equatable {
    public var tablesDone = 0
    public var tablesTotal = 0
    public var rows = 0
    public var bytes = 0
    /// Estimated from the tables' sizes on disk.
    public var estimatedBytes = 0
    public var elapsedMilliseconds: Int64 = 0

    public init() {}

    public var bytesPerSecond: Double {
        elapsedMilliseconds > 0 ? Double(bytes) * 1_000 / Double(elapsedMilliseconds) : 0
    }

    /// 0 to 1; below 1 until the last table is done.
    public var fraction: Double {
        guard tablesDone < tablesTotal else { return 1 }
        return min(0.99, estimatedBytes > 0 ? Double(bytes) / Double(estimatedBytes) : 0)
    }

    /// `nil` until there is a rate.
    public var etaSeconds: Double? {
        guard bytesPerSecond > 0, tablesDone < tablesTotal else { return tablesDone == tablesTotal ? 0 : nil }
        return Double(max(0, estimatedBytes - bytes)) / bytesPerSecond
    }
}
