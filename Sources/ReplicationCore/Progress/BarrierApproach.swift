/// How often a direction passes its barrier with empty hands before it passes it with rows in them, whose writers then wait.
///
/// The first pass reads what there is; the next one only what was written meanwhile, and so on. It ends where a pass is short,
/// or where the way gets no shorter: the side is written about as fast as it is read, and would be so after any number of
/// passes. Then rows are held for as long as it takes, which also slows their writers down; else neither direction would ever
/// apply anything again.
public struct BarrierApproach: Sendable {
    /// What rows may be held for without asking further.
    public static let nearMilliseconds: Int64 = 200

    private var lastMilliseconds = Int64.max
    private var isShortening = true

    public init() {}

    /// Whether to pass once more with empty hands.
    public var goesOn: Bool { isShortening && lastMilliseconds > Self.nearMilliseconds }

    /// Another group is to be applied; what is known of the way stays known.
    public mutating func begin() { isShortening = true }

    /// - Parameter milliseconds: what a pass has taken, with empty hands or not.
    public mutating func notePass(milliseconds: Int64) {
        isShortening = milliseconds <= lastMilliseconds / 2
        lastMilliseconds = milliseconds
    }
}
