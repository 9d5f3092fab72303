import PostgresClient
import ReplicationCore

/// Everything a split needs to know before it connects.
public struct SplitSettings: Sendable {
    /// By the side that is read. Target and source of the one are source and target of the other.
    public var directions: SidePair<DirectionSettings>
    public var gates: Gates
    /// Of each side's services.
    let roles: SidePair<[String]>

    /// - Parameters:
    ///   - origin: reads the database that held the data before the split.
    ///   - roles: of each database's services, as far as they are known.
    public init(
        origin: DirectionSettings, other: DirectionSettings, gates: Gates, roles: SidePair<[String]> = SidePair(origin: [], other: [])
    ) {
        self.roles = roles
        directions = SidePair(origin: origin, other: other)
        // What a side has seen of the other is recorded with its own changes; while it has none, a sign of life has to
        // carry it, or the other's slot would keep its WAL for ever.
        for side in Side.allCases where directions[side].replication.heartbeatMilliseconds == 0 {
            directions[side].replication.heartbeatMilliseconds = ReplicationSettings().heartbeatMilliseconds
        }
        // Both directions share the memory, and each has a group at work and the next one, as values and as operations.
        for side in Side.allCases {
            let replication = directions[side].replication
            directions[side].replication.group.maximumBytes = min(
                replication.groupLimits.bytes, max(64 << 10, replication.memoryLimitBytes / 24))
        }
        self.gates = gates
    }

    subscript(reading side: Side) -> DirectionSettings { directions[side] }
    /// The direction that writes into a side.
    subscript(writing side: Side) -> DirectionSettings { directions[side.opposite] }

    func name(_ side: Side) -> String { directions[side].sourceName }
    func options(_ side: Side) -> ConnectionOptions { directions[side].source }

    /// Runs `body` with a session on each side.
    func withBoth<Result: Sendable>(_ body: (SidePair<PostgresConnection>) async throws -> Result) async throws -> Result {
        try await PostgresConnection.with(options(.origin)) { origin in
            try await PostgresConnection.with(options(.other)) { other in
                try await body(SidePair(origin: origin, other: other))
            }
        }
    }

    /// The same numbers in both directions: tables by rank.
    var tableIDs: [QualifiedName: Int] {
        let names = (directions[.origin].policy?.tables.keys.sorted() ?? []).enumerated()
        return Dictionary(names.map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// The same while services move: both sides write everything.
    public var inTransition: SplitSettings {
        var settings = self
        for side in Side.allCases {
            settings.directions[side].policy = directions[side].policy?.inTransition(origin: name(.origin), other: name(.other))
        }
        return settings
    }

    /// The same with some columns that both sides write.
    func sharing(_ columns: [ColumnName: SharedColumnRule]) -> SplitSettings {
        var settings = self
        for side in Side.allCases {
            guard let policy = directions[side].policy else { continue }
            var tables = policy.tables
            for (column, rule) in columns { tables[column.table]?.columns[column.column] = .shared(rule) }
            settings.directions[side].policy = OwnershipPolicy(tables: tables, isInTransition: policy.isInTransition)
        }
        return settings
    }

    /// Has both directions know which tables of each side are meant.
    mutating func note(_ tables: SidePair<TableOIDs>) {
        for side in Side.allCases {
            directions[side].sourceTables = tables[side]
            directions[side].targetTables = tables[side.opposite]
        }
    }

    func sequences(origin: PostgresConnection, other: PostgresConnection) -> SequenceSplit {
        SequenceSplit(
            origin: (name(.origin), origin), other: (name(.other), other),
            policy: directions[.origin].policy ?? OwnershipPolicy(tables: [:]), mode: directions[.origin].replication.sequences)
    }

    /// The way from one database to two: everything that is declared goes to the other side, which only reads yet.
    var copy: DirectionSettings {
        var settings = directions[.origin]
        settings.backend = .replica
        return settings
    }

    /// What may wait in memory to be applied, from each side.
    var pendingBytes: Int { directions[.origin].replication.memoryLimitBytes / 16 }
    /// What may be on its way there, as it came.
    var arrivingBytes: Int { pendingBytes / 2 }
    /// Where what a side sends is cut. One such piece is being decoded, one is being read by `SplitReader`, and there whole rows
    /// become what they wrote: a group has many of them.
    func readLimits(_ side: Side) -> GroupLimits {
        var limits = directions[side].replication.groupLimits
        limits.bytes = max(64 << 10, limits.bytes / 2)
        return limits
    }
    /// What each side's own writes may take in memory that the other has not seen, and what the other's leave of as much.
    var historyBytes: Int { directions[.origin].replication.memoryLimitBytes / 12 }
    /// What one transaction may take that can't be applied in parts, and the index of a history in files.
    var stopBytes: Int { directions[.origin].replication.memoryLimitBytes }
}
