/// When a group may begin beside the one before: what was in vain several times is tried ever more seldom, and first of all
/// with more caution.
public struct OverlapPatience: Sendable {
    /// The most groups that pass between two attempts.
    private static let longestGap = 1_024

    private var gap = 0
    private var passed = 0
    private var cautiousGroups = 0

    public init() {}

    /// Whether something was in vain not long ago: a unique value may have passed from one row to another.
    public var isCautious: Bool { cautiousGroups > 0 }

    /// Whether the next group may; asked once for each.
    public mutating func isDue() -> Bool {
        passed += 1
        cautiousGroups = max(0, cautiousGroups - 1)
        return passed > gap
    }

    public mutating func handleSuccess() { (gap, passed) = (0, 0) }

    public mutating func handleFailure() {
        gap = min(Self.longestGap, 2 * gap + 1)
        passed = 0
        cautiousGroups = Self.longestGap
    }
}
