import Testing

@testable import ReplicationCore

/// What of a group may begin before the group before it has an end.
@Suite struct GroupFootprintTests {
    private static let name = QualifiedName(schema: "public", name: "Reservas")

    private func relation(_ comparingIndexCount: Int = 1) throws -> RelationPlan {
        let text = { ColumnDescription(name: $0, type: "text", typeOID: 25, baseTypeOID: 25, baseArrayOID: 1009) }
        return try RelationPlan.make(
            relation: RelationMessage(
                id: 1, name: Self.name, replicaIdentity: .default,
                columns: ["id", "a"].map { .init(isKey: $0 == "id", name: $0, typeOID: 25, typeModifier: -1) }),
            target: TableDescription(
                name: Self.name, columns: ["id", "a"].map(text), primaryKey: ["id"], comparingIndexCount: comparingIndexCount),
            isBinary: true, travels: { _ in true })
    }

    /// `free` and `bound` keys of a group.
    private func split(
        _ script: inout StreamScript, beside footprint: GroupFootprint, comparingIndexCount: Int = 1
    ) throws -> (free: [String], bound: [String], footprint: GroupFootprint) {
        let chunk = try script.take()
        let relation = try relation(comparingIndexCount)
        let plan = GroupPlanner.plan([chunk], skipUpTo: .zero, beside: footprint) { _ in relation }
        func keys(_ steps: [GroupPlan.Step]) -> [String] {
            steps.flatMap { step -> [String] in
                switch step {
                case .row(_, let change, _): return ["\(chunk.changes[change].kind)"]
                case .bulk(let statement):
                    return statement.rows.map { chunk.words(cell: plan.location($0, sourceIndex: 0).cell) }
                }
            }
        }
        return (keys(plan.free), keys(plan.steps), plan.footprint)
    }

    private func script() throws -> StreamScript {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "a"])
        try script.begin()
        return script
    }

    /// What a group that updates these rows touches.
    private func footprint(_ keys: [String], isCautious: Bool = true) throws -> GroupFootprint {
        var script = try script()
        for key in keys { try script.update(1, [key, "1"]) }
        try script.commit()
        var footprint = try split(&script, beside: .everything).footprint
        footprint.isCautious = isCautious
        return footprint
    }

    @Test func rowsThatTheGroupBeforeTouchesWait() throws {
        var script = try script()
        for key in ["k", "l", "m"] { try script.update(1, [key, "2"]) }
        try script.insert(1, ["n", "1"])
        try script.commit()
        let (free, bound, footprint) = try split(&script, beside: footprint(["l", "x"]))
        #expect(free == ["k", "m", "n"] && bound == ["l"])
        // The next one minds both.
        var next = try self.script()
        for key in ["k", "l", "n", "x"] { try next.update(1, [key, "3"]) }
        try next.commit()
        let after = try split(&next, beside: footprint)
        #expect(after.free == ["x"] && after.bound == ["k", "l", "n"])
    }

    @Test func besideNothingKnownAllWait() throws {
        var script = try script()
        try script.update(1, ["k", "2"])
        try script.commit()
        let (free, bound, _) = try split(&script, beside: .everything)
        #expect(free.isEmpty && bound == ["k"])
    }

    /// A key that changes, and what comes after it, may depend on anything in its table.
    @Test func whatFollowsAChangedKeyWaits() throws {
        var script = try script()
        try script.update(1, ["k", "2"])
        try script.update(1, ["m", "2"], oldKey: ["l", StreamScript.unchanged])
        try script.update(1, ["n", "2"])
        try script.commit()
        let (free, bound, footprint) = try split(&script, beside: footprint(["x"]))
        #expect(free == ["k"] && bound == ["update", "n"])
        var next = try self.script()
        try next.update(1, ["z", "3"])
        try next.commit()
        #expect(try split(&next, beside: footprint).free.isEmpty)
    }

    @Test func nothingGoesBeforeATruncation() throws {
        var script = try script()
        try script.assembler.handle(.truncate(relations: [1], cascade: false, restartIdentity: false, xid: nil))
        try script.insert(1, ["k", "1"])
        try script.commit()
        let (free, bound, footprint) = try split(&script, beside: footprint(["x"]))
        #expect(free.isEmpty && bound == ["truncate", "k"] && footprint.isEverything)
    }

    /// A constraint that compares rows makes a touched table one thing, where it has been in the way.
    @Test func rowsThatAConstraintComparesWaitWithCaution() throws {
        for (isCautious, expected) in [(true, []), (false, ["k"])] {
            var script = try script()
            try script.update(1, ["k", "2"])
            try script.commit()
            let footprint = try footprint(["x"], isCautious: isCautious)
            #expect(try split(&script, beside: footprint, comparingIndexCount: 2).free == expected)
        }
    }

    @Test func aHashIsFoundAmongMany() {
        var hashes = KeyHashes()
        #expect(!hashes.contains(0))
        for hash in stride(from: UInt32(0), to: 300_000, by: 3) { hashes.insert(hash) }
        hashes.insert(0)
        #expect(stride(from: UInt32(0), to: 300_000, by: 3).allSatisfy { hashes.contains($0) })
        #expect(stride(from: UInt32(2), to: 300_000, by: 3).allSatisfy { !hashes.contains($0) })
    }

    @Test func whatIsInVainIsTriedEverMoreSeldom() {
        var patience = OverlapPatience()
        var gaps: [Int] = []
        for _ in 0..<4 {
            var gap = 0
            while !patience.isDue() { gap += 1 }
            gaps.append(gap)
            patience.handleFailure()
        }
        #expect(gaps == [0, 1, 3, 7] && patience.isCautious)
        while !patience.isDue() {}
        patience.handleSuccess()
        #expect(patience.isDue() && patience.isCautious)
        for _ in 0..<1_024 { _ = patience.isDue() }
        #expect(!patience.isCautious)
    }
}
