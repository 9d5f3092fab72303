import Testing

@testable import ReplicationCore

@Suite struct GroupPlannerTests {
    /// A plan in words: `insert a=1`, one string a row; `row` for a change applied alone.
    private func plan(_ script: inout StreamScript, full: Bool = false, bulk: Bool = true) throws -> [String] {
        let chunk = try script.take()
        let plans = try chunk.relations.definitions.map { relation in
            try RelationPlan.make(
                relation: relation,
                target: TableDescription(
                    name: relation.name,
                    columns: relation.columns.map {
                        ColumnDescription(name: $0.name, type: "text", typeOID: 25, baseTypeOID: 25, baseArrayOID: 1009)
                    }, primaryKey: ["id"]),
                isBinary: true, allowsBulk: bulk, travels: { _ in true })
        }
        let group = GroupPlanner.plan([chunk], skipUpTo: .zero) { plans[$0] }
        return group.steps.flatMap { step -> [String] in
            switch step {
            case .row(_, let change, _): return ["row \(chunk.changes[change].kind)"]
            case .bulk(let statement):
                return statement.rows.map { row in
                    let width = plans[statement.shape.definition].sourceWidth
                    let values = (0..<width).map { chunk.words(cell: group.location(row, sourceIndex: $0).cell) }
                    let written = statement.shape.written.isEmpty ? [] : statement.shape.written
                    return "\(statement.shape.kind) \(values.joined(separator: ",")) \(written)"
                }
            }
        }
    }

    private func script(full: Bool = false) throws -> StreamScript {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "a", "b"], full: full)
        try script.begin()
        return script
    }

    @Test func insertThenUpdateIsOneInsert() throws {
        var script = try script()
        try script.insert(1, ["k", "1", "x"])
        try script.update(1, ["k", "2", StreamScript.unchanged])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["insert k,2,x [0, 1, 2]"])
    }

    @Test func updatesOfOneRowAreOneUpdate() throws {
        var script = try script()
        for number in 1...5 { try script.update(1, ["k", "\(number)", "y"]) }
        try script.update(1, ["l", "1", "z"])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["update k,5,y [1, 2]", "update l,1,z [1, 2]"])
    }

    /// Only a streamed transaction's own definitions come back under the number they had.
    @Test func aDefinitionThatComesBackKeepsTheOrder() throws {
        var script = try script()
        let columns = ["id", "a", "b"]
        script.assembler.beginOwnRelations()
        script.ownTable(1, "Reservas", key: ["id"], columns: columns)
        try script.update(1, ["k", "1", "x"])
        script.ownTable(1, "Reservas", key: ["id"], columns: columns, full: true)
        try script.update(1, ["k", "2", "x"], oldKey: ["k", "1", "x"], full: true)
        script.ownTable(1, "Reservas", key: ["id"], columns: columns)
        try script.update(1, ["k", "3", "x"])
        script.assembler.endOwnRelations()
        try script.commit()
        let steps = try plan(&script)
        #expect(steps.compactMap { $0.split(separator: ",").dropFirst().first } == ["1", "2", "3"])
    }

    @Test func unchangedTOASTNeverOverwrites() throws {
        var script = try script()
        try script.update(1, ["k", "1", StreamScript.unchanged])
        try script.update(1, ["l", "1", "whole"])
        try script.update(1, ["k", "2", StreamScript.unchanged])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["update k,2,… [1]", "update l,1,whole [1, 2]"])
    }

    @Test func valueOfAnEarlierUpdateSurvivesUnchangedTOAST() throws {
        var script = try script()
        try script.update(1, ["k", "1", "new"])
        try script.update(1, ["k", "2", StreamScript.unchanged])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["update k,2,new [1, 2]"])
    }

    @Test func insertThenDeleteIsNothing() throws {
        var script = try script()
        try script.insert(1, ["k", "1", "x"])
        try script.delete(1, ["k", StreamScript.null, StreamScript.null])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == [])
    }

    @Test func deleteThenInsertReplacesTheRow() throws {
        var script = try script()
        try script.delete(1, ["k", StreamScript.null, StreamScript.null])
        try script.insert(1, ["k", "1", StreamScript.null])
        try script.update(1, ["k", "2", StreamScript.null])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["delete k,∅,∅ []", "insert k,2,∅ [0, 1, 2]"])
    }

    @Test func deletesGoFirstAndInsertsLast() throws {
        var script = try script()
        try script.insert(1, ["new", "1", "x"])
        try script.update(1, ["old", "2", "x"])
        try script.delete(1, ["gone", StreamScript.null, StreamScript.null])
        try script.commit()
        let steps = try plan(&script)
        #expect(
            steps == ["delete gone,∅,∅ []", "update old,2,x [1, 2]", "insert new,1,x [0, 1, 2]"])
    }

    @Test func changedKeyIsABarrier() throws {
        var script = try script()
        try script.update(1, ["k", "1", "x"])
        try script.update(1, ["m", "2", "x"], oldKey: ["k", StreamScript.null, StreamScript.null])
        try script.update(1, ["m", "3", "x"])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["update k,1,x [1, 2]", "row update", "update m,3,x [1, 2]"])
    }

    @Test func truncationIsABarrierForEveryTable() throws {
        var script = try script()
        try script.insert(1, ["k", "1", "x"])
        try script.assembler.handle(.truncate(relations: [1], cascade: false, restartIdentity: false, xid: nil))
        try script.insert(1, ["k", "2", "x"])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["insert k,1,x [0, 1, 2]", "row truncate", "insert k,2,x [0, 1, 2]"])
    }

    @Test func fullIdentityIsNettedByTheTargetsKey() throws {
        var script = try script(full: true)
        try script.update(1, ["k", "2", "x"], oldKey: ["k", "1", "x"], full: true)
        try script.update(1, ["k", "3", "x"], oldKey: ["k", "2", "x"], full: true)
        try script.commit()
        let steps = try plan(&script, full: true)
        #expect(steps == ["update k,3,x [1, 2]"])
    }

    @Test func tableThatMustSeeEachChangeIsAppliedRowByRow() throws {
        var script = try script()
        try script.insert(1, ["k", "1", "x"])
        try script.update(1, ["k", "2", "x"])
        try script.commit()
        let steps = try plan(&script, bulk: false)
        #expect(steps == ["row insert", "row update"])
    }

    @Test func impossibleHistoryFallsBackToExactOrder() throws {
        var script = try script()
        try script.insert(1, ["k", "1", "x"])
        try script.insert(1, ["k", "2", "x"])
        try script.commit()
        let steps = try plan(&script)
        #expect(steps == ["insert k,1,x [0, 1, 2]", "row insert"])
    }

    @Test func manyKeysStayApart() throws {
        var script = try script()
        for number in 0..<2_000 { try script.insert(1, ["k\(number)", "1", "x"]) }
        for number in stride(from: 0, to: 2_000, by: 2) {
            try script.delete(1, ["k\(number)", StreamScript.null, StreamScript.null])
        }
        try script.commit()
        let rows = try plan(&script)
        #expect(rows.count == 1_000)
        #expect(rows.first == "insert k1,1,x [0, 1, 2]")
    }
}
