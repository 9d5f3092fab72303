/// How far a comparison is.
public struct VerifyProgress: Sendable, Equatable {
    public var table: QualifiedName?
    public var tablesDone = 0
    public var tablesTotal = 0
    public var rowsDone = 0
    /// Of these, how many an earlier run did, which say nothing about the speed of this one.
    public var rowsBefore = 0
    /// The catalog's estimate.
    public var rowsTotal = 0
    public var differences = 0

    public init() {}

    /// 0 to 1; below 1 until everything is done, since the number of rows is an estimate.
    public var fraction: Double {
        if tablesDone == tablesTotal { return 1 }
        guard rowsTotal > 0 else { return tablesTotal == 0 ? 1 : Double(tablesDone) / Double(tablesTotal) }
        return min(0.99, Double(rowsDone) / Double(rowsTotal))
    }

    public func rowsPerSecond(elapsedSeconds: Double) -> Double {
        elapsedSeconds > 0 ? Double(rowsDone - rowsBefore) / elapsedSeconds : 0
    }

    /// `nil` while nobody can tell.
    public func etaSeconds(elapsedSeconds: Double) -> Double? {
        let rate = rowsPerSecond(elapsedSeconds: elapsedSeconds)
        guard rate > 0, rowsTotal > 0 else { return nil }
        return Double(max(0, rowsTotal - rowsDone)) / rate
    }
}
