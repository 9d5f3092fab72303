import ReplicationCore

/// Notices about what reaches a guarded table by way of another one, or of its schema.
extension GuardPlanner {
    mutating func noticeOtherTables() {
        for action in snapshot.bypass.actions { notice(action) }
        for heir in snapshot.bypass.heirs {
            plan.notices.append(
                "Role \"\(heir.role)\" may write to \"\(heir.table)\", which inherits from \"\(heir.parent)\": its rows show there, and no guard holds "
                    + "them. List it in lindero.yaml, or revoke that.")
        }
        guard mode == .enforce else { return }
        for way in snapshot.bypass.schemaOwners {
            plan.notices.append(
                "Role \"\(way.role)\" may drop what is in schema \"\(way.schema)\", which "
                    + (way.role == way.owner ? "it owns" : "\"\(way.owner)\" owns, whose member it is")
                    + ". Run ALTER SCHEMA \(SQLText.identifier(way.schema)) OWNER TO another role.")
        }
    }

    /// What an action writes is the referring table's owner's: PostgreSQL asks nobody, and the audit sees no side.
    private mutating func notice(_ action: GuardBypass.ReferentialAction) {
        let sides = Set(self.sides.map(\.name))
        guard let own = ownership(of: action.table) else { return }
        let theirs = ownership(of: action.referenced)
        func foreign(_ columns: [String], _ side: String) -> [String] { columns.filter { !own.mayWrite($0, side: side) } }

        var ways: [String] = []
        for side in (theirs?.deleteOwners ?? sides).sorted() {
            switch action.onDelete {
            case .cascade? where !own.deleteOwners.contains(side): ways.append("when \(side) deletes there, rows here go (ON DELETE CASCADE)")
            case .setNull?, .setDefault?:
                let columns = foreign(action.columnsSetOnDelete, side)
                if !columns.isEmpty { ways.append("when \(side) deletes there, \(columns.joined(separator: ", ")) changes here (ON DELETE SET)") }
            case .cascade?, nil: break
            }
        }
        for side in sides.sorted() where action.onUpdate != nil {
            let isTheirs = theirs.map { theirs in action.referencedColumns.contains { theirs.mayWrite($0, side: side) } } ?? true
            let columns = foreign(action.columns, side)
            if isTheirs, !columns.isEmpty { ways.append("when \(side) changes the key there, \(columns.joined(separator: ", ")) changes here (ON UPDATE)") }
        }
        guard !ways.isEmpty else { return }
        plan.notices.append(
            "Foreign key \"\(action.constraint)\" of \"\(action.table)\" to \"\(action.referenced)\" writes what another side owns, with the rights of the "
                + "table's owner, so it is neither refused nor recorded: \(ways.joined(separator: "; ")). Make it NO ACTION, or give that side the "
                + "right in lindero.yaml.")
    }

    private func ownership(of table: QualifiedName) -> TableOwnership? { policy.tables[snapshot.rootOfPartition[table] ?? table] }
}
