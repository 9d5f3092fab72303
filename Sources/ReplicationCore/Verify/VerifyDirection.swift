/// The way of data that a comparison follows.
public struct VerifyDirection: Sendable, Equatable {
    public var source: String
    public var target: String
    public var backend: LinderoConfiguration.Backend

    public init(source: String, target: String, backend: LinderoConfiguration.Backend) {
        self.source = source
        self.target = target
        self.backend = backend
    }

    /// `source->target`, as in `lag --json`.
    public var name: String { "\(source)->\(target)" }
    /// Whether changes come back from the target, too: then both sides have to catch up before two rows can differ.
    public var isTwoWay: Bool { backend == .split }
    public func database(_ side: VerifySide) -> String { side == .source ? source : target }
    /// Of the changes that come back.
    public var reverseName: String { "\(target)->\(source)" }

    /// Whether a column shall be the same on both sides. In a split, one that `references` names is not: each side has its
    /// own numbers.
    ///
    /// - Parameter ownership: `nil` when an adopted publication alone decides, and everything in it travels.
    public func compares(_ column: String, _ ownership: TableOwnership?) -> Bool {
        guard let ownership else { return true }
        // Equal rows, but other numbers; and what only comes in is not sent back.
        if isTwoWay, ownership.references[column] != nil || ownership.inboundSide(of: column) != nil { return false }
        if ownership.travels(column, from: source, to: target, backend: backend) { return true }
        return isTwoWay && ownership.travels(column, from: target, to: source, backend: backend)
    }
}

/// One of the two databases of a comparison.
public enum VerifySide: Sendable, Hashable, CaseIterable {
    case source, target

    public var other: VerifySide { self == .source ? .target : .source }
}
