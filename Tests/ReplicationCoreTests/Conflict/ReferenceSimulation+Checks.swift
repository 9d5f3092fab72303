@testable import ReplicationCore

/// What must be so, in the end and meanwhile.
extension ReferenceSimulation {
    func check() throws {
        for side in 0..<2 {
            guard hasRead(side), pending[side].isEmpty, groups[side] == nil else {
                throw failure("side \(side) came to rest with work left")
            }
            guard readers[side].history.isEmpty, readers[side].history.sizeBytes == 0 else {
                throw failure("the history of side \(side) keeps what both have seen")
            }
        }
        let both = databases.map(\.rows)
        let words = both.map(self.words)
        guard words[0] == words[1] else { throw failure("the sides differ, \(conditions): \(words[0]) | \(words[1])") }
        for table in shape.tables.indices where shape.tables[table].isReferenced {
            for (key, first) in both[0].tables[table] {
                guard let second = both[1].tables[table][key], identities.areSame(first.identity, second.identity) else {
                    throw failure("row \(key) of \(shape.tables[table].name) is not the same on both sides, \(conditions)")
                }
            }
        }
        for side in 0..<2 { try checkReferences(both[side], side) }
    }

    /// What a direction has written means the row that the source's writer meant as soon as anybody sees it: that one where it
    /// is there, though the source may have deleted it since, and else none.
    func checkArrived(_ changes: some Sequence<ReferenceDatabase.Change>, on side: Int) throws {
        let rows = databases[side].rows
        for change in changes {
            guard let key = change.logged.new?[0], let parent = shape.tables[change.table].parent,
                let row = rows[ReferencePlace(change.table, key)]
            else { continue }
            func failure(_ what: String) -> SimulationFailure {
                self.failure("row \(key) of \(shape.tables[change.table].name), side \(side), \(what), \(conditions)")
            }
            let place = rows.place(of: row.reference, in: parent)
            guard let referred = place.flatMap({ rows[$0] }) else {
                let isThere = row.meant.map { meant in rows.tables[parent].values.contains { identities.areSame($0.identity, meant) } }
                if isThere == true { throw failure("came without the row that its writer meant, though that is there") }
                continue
            }
            guard let meant = row.meant, identities.areSame(meant, referred.identity) else {
                throw failure("came to refer to another row than its writer meant: \(place.map(\.description) ?? "none")")
            }
        }
    }

    /// A reference means the row that its writer meant, or none; and none only where that is gone.
    func checkReferences(_ rows: ReferenceDatabase.Rows, _ side: Int) throws {
        for (index, table) in shape.tables.enumerated() {
            guard let parent = table.parent else { continue }
            for (key, row) in rows.tables[index] {
                func failure(_ what: String) -> SimulationFailure {
                    self.failure("row \(key) of \(table.name), side \(side), \(what), \(conditions)")
                }
                if table.isRequired, row.reference == nil { throw failure("has an empty reference") }
                guard let meant = row.meant else {
                    if rows.place(of: row.reference, in: parent) != nil { throw failure("refers to what nobody meant") }
                    continue
                }
                guard let place = rows.place(of: row.reference, in: parent) else {
                    if row.reference != nil, table.onDelete != .keep, hasForeignKeys { throw failure("keeps a number of nobody's") }
                    let isThere = rows.tables[parent].values.contains { identities.areSame($0.identity, meant) }
                    if isThere, !hasDeletes, !hasMoves { throw failure("has lost its row") }
                    continue
                }
                guard let referred = rows[place], identities.areSame(referred.identity, meant) else {
                    throw failure("refers to another row than its writer meant: \(place)")
                }
            }
        }
    }

    private func words(_ rows: ReferenceDatabase.Rows) -> String {
        shape.tables.enumerated().map { index, table in
            let keys = rows.tables[index].keys.sorted().map { key -> String in
                guard let parent = table.parent else { return "\(key)" }
                return "\(key) in \(rows.place(of: rows.tables[index][key]?.reference, in: parent).map { "\($0.key)" } ?? "-")"
            }
            return table.name + " " + keys.joined(separator: ", ")
        }.joined(separator: "; ")
    }

    private var conditions: String {
        let tables = shape.tables.compactMap { table -> String? in
            guard let parent = table.parent else { return nil }
            let owner = if case .owned(let side) = table.owner { ", of " + side } else { "" }
            return "\(table.name) in \(shape.tables[parent].name) \(table.onDelete)\(table.isRequired ? ", not null" : "")\(owner)"
        }
        return "[\(tables.joined(separator: "; "))\(hasForeignKeys ? "; foreign keys" : "")]"
    }
}
