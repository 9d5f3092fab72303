import PostgresClient
import ReplicationCore

/// What a small source transaction is apart from its values, and the statement for it: the next of the same form needs no look
/// at the plans of its tables.
///
/// Of services that write the same few transactions again and again nearly every one has a form that is known.
struct FusedForm: Sendable {
    /// What a change is.
    private struct Feature: Sendable {
        var relation: Int
        var kind: Change.Kind
        var hasKey: Bool
    }

    /// Where a parameter comes from.
    private struct Place: Sendable {
        var change: Int
        var isOld: Bool
        /// Within its row.
        var column: Int
    }

    let parts: [FusedStatement.Part]
    /// The prepared statement.
    let name: String
    /// What one transaction counts for, beside itself.
    let counters: ApplyCounters
    /// Transactions that committed before it may be on the target already, in part.
    let copiedUpTo: LSN
    private let features: [Feature]
    private var places: [Place] = []

    /// - Parameter cells: the statement's parameters, for each change.
    /// - Returns: `nil` if another transaction that looks the same could have to be written in another way.
    init?(
        _ changes: ArraySlice<Change>, cells: [[Int]], parts: [FusedStatement.Part], name: String, counters: ApplyCounters,
        copiedUpTo: LSN
    ) {
        guard changes.allSatisfy(\.isPlain) else { return nil }
        self.parts = parts
        self.name = name
        self.counters = counters
        self.copiedUpTo = copiedUpTo
        features = changes.map { Feature(relation: $0.relation, kind: $0.kind, hasKey: $0.oldKind != nil) }
        for (number, (change, cells)) in zip(changes, cells).enumerated() {
            for cell in cells {
                let isOld = !change.new.cells.contains(cell)
                let column = cell - (isOld ? change.old : change.new).firstCell
                places.append(Place(change: number, isOld: isOld, column: column))
            }
        }
    }

    func matches(_ changes: ArraySlice<Change>) -> Bool {
        guard changes.count == features.count else { return false }
        for (change, feature) in zip(changes, features) {
            guard change.relation == feature.relation, change.kind == feature.kind, (change.oldKind != nil) == feature.hasKey,
                change.isPlain
            else { return false }
        }
        return true
    }

    /// The values of a transaction of this form.
    func parameters(of changes: ArraySlice<Change>, _ arena: ChangeArena) -> PackedParameters {
        arena.bytes.withUnsafeBytes { bytes in
            let cells = places.lazy.map { place in
                let change = changes[changes.startIndex + place.change]
                return arena.cells[(place.isOld ? change.old : change.new).firstCell + place.column]
            }
            let sizeBytes = cells.reduce(FusedStatement.progressBytes) { $0 + Int($1.length) }
            var parameters = PackedParameters(count: places.count + FusedStatement.progressCount, bytes: sizeBytes)
            for cell in cells { parameters.append(cell, bytes) }
            return parameters
        }
    }
}

extension Change {
    /// Whether which columns are written and compared depends on no value.
    fileprivate var isPlain: Bool { kind != .truncate && oldKind != .full && !new.hasUnchanged && !old.hasUnchanged }
}

extension PackedParameters {
    /// Adds a cell's value.
    ///
    /// - Parameter bytes: of all cells.
    mutating func append(_ cell: Cell, _ bytes: UnsafeRawBufferPointer) {
        switch cell.kind {
        case .null, .unchanged: appendNull()
        case .text, .binary:
            append(UnsafeRawBufferPointer(rebasing: bytes[cell.range]), isBinary: cell.kind == .binary)
        }
    }
}

extension ChangeArena {
    /// How many bytes the values of some cells have.
    func valueBytes(_ cells: some Sequence<Int>) -> Int { cells.reduce(0) { $0 + Int(self.cells[$1].length) } }
}
