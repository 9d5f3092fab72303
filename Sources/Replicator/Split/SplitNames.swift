import ReplicationCore

/// What has become of a split's tables, which are known by their OIDs, by what both sides' catalogs call them: decides, and asks nobody.
struct SplitNames {
    /// A table of the split, and which one it is on each side.
    struct Table: Equatable {
        /// As it was called when this was last looked at.
        var name: QualifiedName
        /// The last is the present one; more than one where it was made anew, or made partitioned. None where nobody knows.
        var oids = SidePair<[UInt32]>(origin: [], other: [])
        /// Whether the split goes on without it: then only its name is followed, unless a person has given its changes up under that.
        var hasLeft = false
        var isGivenUp = false
    }

    /// What a side calls its tables by now.
    struct Catalog {
        let names: [UInt32: QualifiedName]
        let oids: [QualifiedName: UInt32]
        /// Of partitions, their roots.
        let roots: [UInt32: UInt32]

        init(names: [UInt32: QualifiedName], roots: [UInt32: UInt32] = [:]) {
            self.names = names
            self.roots = roots
            oids = Dictionary(names.map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        }
    }

    /// What is to be noted before anything is read.
    struct Changes: Equatable {
        var renamed: [QualifiedName: QualifiedName] = [:]
        /// By side, the present OID of a table that had none on record, or that has become partitioned, by its new name.
        var oids = SidePair<[QualifiedName: UInt32]>(origin: [:], other: [:])
    }

    /// Why a person has to act.
    enum Problem: Error, Equatable {
        /// One table under two names, of which lindero.yaml can list one.
        case namedApart(QualifiedName, SidePair<QualifiedName>)
        /// Under one name on both sides, and lindero.yaml lists the former.
        case unlisted(QualifiedName, QualifiedName)
        /// Under one name on both sides that is another one's on record.
        case taken(QualifiedName, QualifiedName)
        /// A side calls another table of the split so.
        case exchanged(QualifiedName, Side, with: QualifiedName)
        /// A side calls a table so that took no part.
        ///
        /// - Parameter now: what the one that did is called there; `nil` where it is gone.
        case replaced(QualifiedName, Side, by: UInt32, now: QualifiedName?)
        /// A side has none of the name any more.
        case gone(QualifiedName, Side)
    }

    let tables: [Table]
    let catalogs: SidePair<Catalog>
    /// What lindero.yaml lists.
    let listed: Set<QualifiedName>

    /// - Throws: `Problem` for the first table, by name, that is not the same one on both sides any more.
    func changes() throws(Problem) -> Changes {
        var changes = Changes()
        for table in tables.sorted(by: { $0.name < $1.name }) {
            let present = SidePair { self.present(table, on: $0) }
            if table.hasLeft {
                if !table.isGivenUp, let name = present[.origin], name == present[.other], name != table.name, !isOnRecord(name) { changes.renamed[table.name] = name }
                continue
            }
            // One that is left out under every name is not looked at.
            guard listed.contains(table.name) || present.both.contains(where: { $0.map(listed.contains) ?? false }) else { continue }
            let name = try settle(table, present)
            if name != table.name { changes.renamed[table.name] = name }
            for side in Side.allCases {
                guard let now = catalogs[side].oids[name], table.oids[side].last != now else { continue }
                changes.oids[side][name] = now
            }
        }
        return changes
    }

    /// The first one.
    var problem: Problem? {
        do throws(Problem) {
            _ = try changes()
            return nil
        } catch {
            return error
        }
    }

    private func isOnRecord(_ name: QualifiedName) -> Bool { tables.contains { $0.name == name } }

    /// The name that a table has on both sides.
    private func settle(_ table: Table, _ present: SidePair<QualifiedName?>) throws(Problem) -> QualifiedName {
        for side in Side.allCases where present[side] != table.name && !table.oids[side].isEmpty { try requireUnused(table.name, side, present[side]) }
        // Dropped on both, it has nothing more to send, and the next start asks for it.
        if present.both.allSatisfy({ $0 == nil }) { return table.name }
        for side in Side.allCases where present[side] == nil && !table.oids[side].isEmpty { throw .gone(table.name, side) }
        // A side of which nothing is on record has the table that has the name, or none yet.
        guard let origin = present[.origin] ?? present[.other], let other = present[.other] ?? present[.origin] else { return table.name }
        guard origin == other else { throw .namedApart(table.name, SidePair(origin: origin, other: other)) }
        if origin == table.name { return origin }
        guard listed.contains(origin) else { throw .unlisted(table.name, origin) }
        guard !isOnRecord(origin) else { throw .taken(table.name, origin) }
        return origin
    }

    /// Looks who has a member's name, which that has no more.
    private func requireUnused(_ name: QualifiedName, _ side: Side, _ now: QualifiedName?) throws(Problem) {
        guard let oid = catalogs[side].oids[name] else { return }
        if let member = tables.first(where: { $0.oids[side].last == oid }) { throw .exchanged(name, side, with: member.name) }
        if listed.contains(name) { throw .replaced(name, side, by: oid, now: now) }
    }

    private func present(_ table: Table, on side: Side) -> QualifiedName? {
        let catalog = catalogs[side]
        guard let oid = table.oids[side].last else { return catalog.oids[table.name] == nil ? nil : table.name }
        // Its rows are the partitioned table's that has its name now.
        if let root = catalog.roots[oid], catalog.names[root] == table.name { return table.name }
        return catalog.names[oid]
    }
}
