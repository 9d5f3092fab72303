/// Where a system is on the way from one database to two: what `backend:` names, once `advance` leads.
public typealias Phase = LinderoConfiguration.Backend

extension Phase: Comparable {
    public static func < (a: Phase, b: Phase) -> Bool { a.rank < b.rank }

    /// The one after it; `nil` after the last.
    public var next: Phase? { Phase.allCases.first { $0.rank == rank + 1 } }
    /// The one before it; `nil` before the first.
    public var previous: Phase? { Phase.allCases.first { $0.rank == rank - 1 } }

    private var rank: Int {
        switch self {
        case .shared: 0
        case .replica: 1
        case .split: 2
        }
    }
}

/// What the worker has to run; the row in `lindero.phase` says it, and the worker follows.
public enum WorkerMode: String, Sendable, CaseIterable {
    case shared, replica, split
    /// Both directions, while services move to their own databases: either may write to either database.
    case towardsSplit = "towards_split"
    /// The same on the way back.
    case towardsOrigin = "towards_origin"
    /// Nothing: what the worker would use is being taken down.
    case nothing

    public init(_ phase: Phase) {
        switch phase {
        case .shared: self = .shared
        case .replica: self = .replica
        case .split: self = .split
        }
    }

    /// How the databases are to be read and compared meanwhile.
    public var backend: Phase {
        switch self {
        case .shared: .shared
        case .replica, .nothing: .replica
        case .split, .towardsSplit, .towardsOrigin: .split
        }
    }

    /// Its number among the locks by which a worker shows what it runs.
    public var lockNumber: Int32 {
        switch self {
        case .shared: 100
        case .replica: 101
        case .split: 102
        case .towardsSplit: 103
        case .towardsOrigin: 104
        case .nothing: 105
        }
    }
}
