import Logging
import PostgresClient
import ReplicationCore

/// What a split needs before services may write on both sides, and what is put back when they no longer do.
///
/// Every step can be killed and done again.
public struct SplitTransition: Sendable {
    /// With the ownership of the transition.
    private let settings: SplitSettings
    private let logger: Logger

    /// - Parameter settings: as declared, or already in transition.
    public init(settings: SplitSettings, logger: Logger) {
        self.settings = settings.inTransition
        self.logger = logger
    }

    private var tables: [QualifiedName] { settings[reading: .origin].policy?.tables.keys.sorted() ?? [] }

    /// Has both sides write whole old rows, and shares the numbers of their sequences. The worker may run the directions that
    /// follow from this afterwards, not before: where a split runs already, both have read past the change by then.
    ///
    /// - Returns: the tables and partitions that were changed, on either side.
    /// - Throws: `ReplicationFailure`, `SplitDrainError`, `PostgresError`.
    public func widen() async throws -> Int {
        var count = 0
        let hasBegun = try await settings.withBoth { sides in
            for side in Side.allCases {
                _ = try await Migrator(connection: sides[side]).migrate()
                let changed = try await FullIdentity(name: settings.name(side), connection: sides[side], logger: logger).set(tables)
                count += changed.count
                if !changed.isEmpty {
                    logger.notice(
                        "changes carry the old row",
                        metadata: ["database": "\(settings.name(side))", "tables": "\(changed.map(\.sql).joined(separator: ", "))"])
                }
            }
            guard try await SplitProgressStore(connection: sides[.other], direction: settings[reading: .origin].name).read() != nil
            else { return false }
            try await settings.sequences(origin: sides[.origin], other: sides[.other]).applyOrSayWhy()
            return true
        }
        if hasBegun { try await SplitDrain(settings: settings).pass() }
        return count
    }

    /// Puts every table's replica identity back to what it was, but where the declared ownership needs whole old rows.
    /// Only once the worker runs that ownership. Asks for no plan of a split: it is what is left when there can be none.
    ///
    /// - Parameters:
    ///   - sides: both databases, by name.
    ///   - ownership: `nil` when nothing is read on the other side any more.
    /// - Returns: the tables and partitions that were changed, on either side.
    public static func restoreIdentity(
        on sides: [(name: String, options: ConnectionOptions)], for ownership: OwnershipPolicy?
    ) async throws -> Int {
        var count = 0
        var shared: Set<QualifiedName> = []
        if ownership != nil {
            for side in sides { shared.formUnion(try await PostgresConnection.with(side.options) { try await SplitPolicies.sharedStill($0) }) }
        }
        for side in sides {
            let other = sides.first { $0.name != side.name }?.name ?? side.name
            count += try await PostgresConnection.with(side.options) { connection in
                var kept: [QualifiedName] = []
                if let ownership {
                    kept = try await CatalogReader.tables(connection, matching: ownership.tables.keys.sorted()).filter { table in
                        shared.contains(table.name) || ownership.tables[table.name]?.needsOldRow(table, on: side.name, by: other) == true
                    }.map(\.name)
                }
                return try await FullIdentity(name: side.name, connection: connection).restore(
                    except: kept, keepsOthers: ownership != nil
                ).count
            }
        }
        return count
    }

    /// Brings the second database's private columns home to the origin: they stayed there since the last transition, and
    /// from now on they travel. For the time between `widen` and the first write of their service on the origin, with a worker
    /// that runs the transition.
    ///
    /// - Parameter show: told now and then how many rows were looked at, and how many were written.
    /// - Returns: the rows that were written.
    /// - Throws: `ReplicationFailure`, `SplitDrainError`, `PostgresError`.
    public func bringPrivateColumnsHome(show: (_ looked: Int, _ written: Int) -> Void = { _, _ in }) async throws -> Int {
        // Which they are must be what the split has run with.
        try await PostgresConnection.with(settings.options(.other)) { try await SplitMembers(settings: settings, other: $0).requireNone() }
        let staying = settings[reading: .origin].policy?.stayingColumns(of: settings.name(.other)) ?? [:]
        if staying.isEmpty { return 0 }
        // Rows that were made without them are on the origin by then.
        try await drain()
        return try await PrivateHome(settings: settings).bring(staying, show: show)
    }

    /// Waits until both sides have all that either had, and each knows it of the other: then ownership may narrow again.
    public func drain(show: (_ bytes: SidePair<UInt64>) -> Void = { _ in }) async throws {
        try await SplitDrain(settings: settings).pass(show: show)
    }
}
