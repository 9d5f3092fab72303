/// One of the two databases of a split. A direction goes by the side that it reads.
public enum Side: Int, Sendable, CaseIterable {
    /// The database that held the data before the split.
    case origin
    case other

    public var opposite: Side { self == .origin ? .other : .origin }
}

/// Something that each side has one of.
public struct SidePair<Value> {
    private var values: [Value]

    public init(origin: Value, other: Value) { values = [origin, other] }

    public init(_ make: (Side) throws -> Value) rethrows { values = [try make(.origin), try make(.other)] }

    public subscript(side: Side) -> Value {
        _read { yield values[side.rawValue] }
        _modify { yield &values[side.rawValue] }
    }

    public var both: [Value] { values }
}

extension SidePair: Sendable where Value: Sendable {}
extension SidePair: Equatable where Value: Equatable {}
