/// The replication origins of one direction, by the name of the first: a second session that applies has one of its own.
public struct OriginName: Sendable, Equatable {
    public static let secondSuffix = "/2"

    public let first: String
    public let second: String

    public init(_ first: String) { (self.first, second) = (first, first + Self.secondSuffix) }

    /// Whether an origin is one of the direction's.
    public func holds(_ name: String?) -> Bool { name == first || name == second }
}
