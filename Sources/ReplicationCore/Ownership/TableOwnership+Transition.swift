extension OwnershipPolicy {
    /// Who owns what while services move from one database of a split to the other: both write everything on both sides.
    ///
    /// The same whichever way they move, so that an operator may change their mind in between: two writes that met under
    /// the one preference are never judged by another. Everything that a split does follows from it as from any policy.
    ///
    /// - Parameters:
    ///   - origin: the database that held the data before the split.
    ///   - other: the second one.
    public func inTransition(origin: String, other: String) -> OwnershipPolicy {
        OwnershipPolicy(tables: tables.mapValues { $0.inTransition(origin: origin, other: other) }, isInTransition: true)
    }

    /// Private columns of the second database, by table: they stay there once the services have moved, so that what was
    /// written since has to be brought before they move back.
    public func stayingColumns(of other: String) -> [QualifiedName: [String]] {
        tables.compactMapValues { ownership in
            let columns = ownership.privateColumns.filter { ownership.owner(of: $0) == other }.sorted()
            return columns.isEmpty ? nil : columns
        }
    }
}

extension TableOwnership {
    /// - Owned columns are shared, and their owner's database is preferred: what a service writes at the same moment on
    ///   both sides is decided, and recorded, as between two services. Once nobody but the owner writes there, this and
    ///   plain ownership mean the same, so the transition may end one transaction later or earlier on either side.
    /// - Shared columns keep their policies.
    /// - Both sides make and delete rows.
    /// - The second database's private columns travel both ways: until their service has moved for good, the origin is its
    ///   database, too. The origin's own never leave it; what is written to them on the other side comes home.
    /// - Numbers (`surrogate`) travel as before: a key that one side gave alone still must be the same on both.
    func inTransition(origin: String, other: String) -> TableOwnership {
        var ownership = self
        ownership.insertOwners = [origin, other]
        ownership.deleteOwners = [origin, other]
        for case (let column, .owned(let owner)) in columns {
            ownership.columns[column] = .shared(SharedColumnRule(policy: .prefer, side: owner))
            ownership.moving[column] = owner
            if owner == origin, privateColumns.contains(column) { ownership.inbound.insert(column) }
        }
        return ownership
    }
}
