import ReplicationCore

/// What Lindero wrote down about a table when it guarded it.
struct GuardRecord: Sendable, Equatable {
    /// How the table of today was found.
    enum Match: Sendable {
        /// It is the very table that was guarded, perhaps under a new name.
        case identity
        /// The table that was guarded is gone; another has its name.
        case successor
        /// The database is a restored copy, in which names alone tell.
        case restored
    }

    /// Its name today.
    var table: QualifiedName
    var recordedName: QualifiedName
    var match: Match
    /// Whether another table has the recorded name today.
    var isNameTaken: Bool
    var owner: String
    var mode: GuardMode
    var before: Set<AccessGrant>
    var after: Set<AccessGrant>
    /// Grants on columns that were dropped since.
    var lostBefore: Set<AccessGrant> = []
    var lostAfter: Set<AccessGrant> = []

    /// The access list as it would be without the guard: what the guard took is given back, what it gave is taken,
    /// and what others changed since then stays.
    func undone(from access: TableAccess) -> Set<AccessGrant> {
        let before = renamed(before, owner: access.owner)
        let after = renamed(after, owner: access.owner)
        var result = access.grants.subtracting(after.subtracting(before)).union(before.subtracting(after))
        // One holder has a privilege from one grantor once, with or without the right to grant it on.
        for grant in result where grant.isGrantable { result.remove(grant.grantable(false)) }
        return result
    }

    /// Whether somebody else changed the access list since the guard.
    func isChanged(_ access: TableAccess) -> Bool { renamed(after, owner: access.owner) != access.grants }

    /// A new owner takes the old one's place in a table's access lists.
    private func renamed(_ grants: Set<AccessGrant>, owner newOwner: String) -> Set<AccessGrant> {
        guard newOwner != owner else { return grants }
        return Set(
            grants.map { grant in
                var copy = grant
                if copy.grantor == owner { copy.grantor = newOwner }
                if copy.grantee == .role(owner) { copy.grantee = .role(newOwner) }
                return copy
            })
    }
}
