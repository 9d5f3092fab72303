import Testing

@testable import ReplicationCore

@Suite struct RowStatementTests {
    /// How a table of these columns is found by a delete, where the source sends whole rows and the target has no key.
    private func delete(columns: [String], travelling: [String]) throws -> String {
        let relation = RelationMessage(
            id: 1, name: QualifiedName(schema: "public", name: "guest"), replicaIdentity: .full,
            columns: columns.map { RelationMessage.Column(isKey: true, name: $0, typeOID: 25, typeModifier: -1) })
        let target = TableDescription(
            name: relation.name, columns: columns.map { ColumnDescription(name: $0, type: "text", typeOID: 25, baseTypeOID: 25) })
        let plan = try RelationPlan.make(relation: relation, target: target, isBinary: true) { travelling.contains($0) }
        var arena = ChangeArena()
        arena.cells = columns.map { _ in Cell(kind: .null) }
        let change = Change(kind: .delete, relation: 0, old: OldTuple(kind: .full, tuple: TupleReference(firstCell: 0, count: columns.count)))
        guard case .apply(let row) = RowChange.resolve(change, plan: plan, arena: arena) else { return "" }
        return RowStatement(shape: row.shape, plan: plan).sql
    }

    @Test func aRowThatNothingIsKnownOfIsNotAnyRow() throws {
        #expect(try delete(columns: ["id", "v"], travelling: []).contains("WHERE false LIMIT 1"))
        #expect(try delete(columns: ["id", "v"], travelling: ["v"]).contains(#"WHERE "v" IS NOT DISTINCT FROM $1 LIMIT 1"#))
    }

    /// Rows without columns are all the same.
    @Test func ofATableWithoutColumnsOneRowIsDeleted() throws {
        #expect(try delete(columns: [], travelling: []).contains("WHERE true LIMIT 1"))
    }
}
