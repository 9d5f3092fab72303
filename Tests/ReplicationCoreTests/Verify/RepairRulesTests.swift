import Testing

@testable import ReplicationCore

@Suite struct RepairRulesTests {
    private func rules(
        insert: Set<String> = ["bot"], delete: Set<String> = ["bot"], taking taken: String? = nil, _ change: (inout TableOwnership) -> Void = { _ in }
    ) -> RepairRules {
        var ownership = TableOwnership(
            table: QualifiedName(schema: "public", name: "t"), match: ["id"], insertOwners: insert, deleteOwners: delete,
            privateColumns: [],
            columns: [
                "id": .owned(by: "bot"), "mine": .owned(by: "bot"), "yours": .owned(by: "sync"),
                "last": .shared(SharedColumnRule(policy: .lastWrite)), "count": .shared(SharedColumnRule(policy: .delta)),
                "asked": .shared(SharedColumnRule(policy: .queue)), "high": .shared(SharedColumnRule(policy: .max)),
                "low": .shared(SharedColumnRule(policy: .min)), "side": .shared(SharedColumnRule(policy: .prefer, side: "sync")),
            ])
        change(&ownership)
        return RepairRules(ownership, VerifyDirection(source: "bot", target: "sync", backend: .split), taking: taken)
    }

    @Test func aColumnIsItsOwnersOrWhatItsPolicyTells() {
        for taken in [nil, "bot", "sync"] {
            let rules = rules(taking: taken)
            #expect(rules.column("mine") == .side("bot", because: .owner))
            #expect(rules.column("yours") == .side("sync", because: .owner))
            #expect(rules.column("side") == .side("sync", because: .prefer))
            #expect(rules.column("high") == .greater)
            #expect(rules.column("low") == .smaller)
            // It identifies rows, and a column that nobody owns is nobody's.
            #expect(rules.column("id") == .undecided(.key("id")))
            #expect(rules.column("unknown") == .undecided(.key("unknown")))
        }
    }

    @Test(arguments: [("last", SharedColumnRule.Policy.lastWrite), ("count", .delta), ("asked", .queue)])
    func whatNoRuleTellsIsAPersonsToSay(column: String, policy: SharedColumnRule.Policy) {
        #expect(rules().column(column) == .undecided(.policy(column: column, policy)))
        #expect(rules(taking: "sync").column(column) == .side("sync", because: .taken))
    }

    @Test func whileServicesMoveAColumnIsStillItsOwners() {
        let moving = rules { $0 = $0.inTransition(origin: "bot", other: "sync") }
        #expect(moving.column("mine") == .side("bot", because: .owner) && moving.column("yours") == .side("sync", because: .owner))
        #expect(moving.row(on: .source) == .undecided(.madeOrDeleted("bot", "sync")))
    }

    @Test func aRowOfOneSideFollowsFromWhoMayMakeAndDeleteIt() {
        // Whoever has the row may make it, and nobody else delete it; and the other way round.
        #expect(rules(insert: ["bot"], delete: ["bot"]).row(on: .source) == .insert(isWhole: false))
        #expect(rules(insert: ["bot"], delete: ["bot"]).row(on: .target) == .delete)
        #expect(rules(insert: ["bot", "sync"], delete: ["bot"]).row(on: .source) == .insert(isWhole: false))
        #expect(rules(insert: ["bot", "sync"], delete: ["bot"]).row(on: .target) == .undecided(.madeOrDeleted("sync", "bot")))
        #expect(rules(insert: ["sync"], delete: ["bot"]).row(on: .source) == .undecided(.neither("bot", "sync")))
        #expect(rules(insert: [], delete: []).row(on: .target) == .undecided(.neither("sync", "bot")))
        for taken in ["bot", "sync"] {
            let asked = rules(insert: ["bot", "sync"], delete: ["bot", "sync"], taking: taken)
            #expect(asked.row(on: .source) == (taken == "bot" ? .insert(isWhole: true) : .delete))
            // What a rule says stands.
            #expect(rules(taking: taken).row(on: .target) == .delete)
        }
    }

    @Test func rowsWithNumbersOfTheirOwnSideAreLeftToTheServices() {
        let other = QualifiedName(schema: "public", name: "other")
        #expect(rules { $0.references = ["mine": other] }.row(on: .source) == .undecided(.refersByNumber("bot")))
        for side in VerifySide.allCases { #expect(rules { $0.isReferenced = true }.row(on: side) == .undecided(.isNumbered)) }
    }

    @Test func aNewRowGetsNoValueOfItsOwnSideUnlessAPersonSaysSo() {
        let rules = rules { $0.fill = ["yours": "x", "mine": "y"] }
        #expect(rules.brings("mine", from: .source, isWhole: false) && rules.brings("last", from: .source, isWhole: false))
        #expect(!rules.brings("yours", from: .source, isWhole: false))
        #expect(rules.brings("yours", from: .source, isWhole: true))
        #expect(rules.fills(beside: ["id", "mine"]).map(\.column) == ["yours"])
    }
}
