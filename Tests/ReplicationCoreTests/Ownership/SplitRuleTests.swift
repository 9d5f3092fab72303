import ReplicationCore
import Testing

/// What a split says of rows from the other side, resolved against the tables.
@Suite struct SplitRuleTests {
    private let tables = [
        Hotel.table("Hotels", ["id", "code", "name"], primaryKey: ["id"], uniqueKeys: [["code"]]),
        Hotel.table("Rooms", ["id", "number", "hotelId", "notes", "price"], primaryKey: ["id"], uniqueKeys: [["number"]]),
        Hotel.table("Beds", ["room", "bed"], primaryKey: ["room", "bed"]),
        Hotel.table("Codes", ["code", "text"], primaryKey: ["code"]),
    ]

    private func rules(_ edit: (inout SplitRule) -> Void) -> [TableRule] {
        var rooms = TableRule(
            pattern: "Rooms", match: ["number"], owned: ["bot": ["notes"], "sync": ["*"]],
            shared: ["price": SharedColumnRule(policy: .max)],
            marks: ["": SourceMark(line: 1, column: 1), "fill x": SourceMark(line: 2, column: 3), "references hotelId": SourceMark(line: 4, column: 5)])
        edit(&rooms.split)
        return [
            rooms, TableRule(pattern: "Hotels", match: ["code"], owned: ["sync": ["*"]]),
            TableRule(pattern: "Beds", owned: ["sync": ["*"]]), TableRule(pattern: "Codes", owned: ["sync": ["*"]]),
        ]
    }

    private func resolve(_ edit: (inout SplitRule) -> Void) throws(OwnershipError) -> TableOwnership? {
        try OwnershipPolicy.resolve(Hotel.configuration(rules(edit)), tables: tables).tables[tables[1].name]
    }

    private func problem(_ edit: (inout SplitRule) -> Void) -> OwnershipProblem? {
        do throws(OwnershipError) {
            _ = try resolve(edit)
            return nil
        } catch {
            return error.problems.count == 1 ? error.problems[0] : nil
        }
    }

    @Test func whatTheFileSaysReachesTheTable() throws {
        let rooms = try #require(
            try resolve { split in
                split.fill = ["notes": "", "id": "7"]
                split.references = ["hotelId": "Hotels"]
                split.onDelete = .nullify
            })
        #expect(rooms.fill == ["notes": "", "id": "7"])
        #expect(rooms.references == ["hotelId": QualifiedName(schema: "public", name: "Hotels")])
        #expect(rooms.onDelete == .nullify)
    }

    @Test func namesThatDoNotExistAreAnsweredWithTheNearest() {
        let fill = problem { $0.fill = ["note": "x"] }
        #expect(fill?.suggestion == "notes")
        #expect(fill?.message == "fill: table \"Rooms\" has no column \"note\"")
        let column = problem { $0.references = ["hotelID": "Hotels"] }
        #expect(column?.suggestion == "hotelId")
        let table = problem { $0.references = ["hotelId": "Hotel"] }
        #expect(table?.suggestion == "Hotels")
        #expect(table?.mark == SourceMark(line: 4, column: 5))
        #expect(table?.message.contains("refers to \"Hotel\", which is no table under tables:") == true)
    }

    @Test func whatComesWithTheRowHasNothingToFill() {
        let table = tables[1].name
        #expect(problem { $0.fill = ["price": "1"] }?.kind == .fillOfTravellingColumn("price", table: table))
        #expect(problem { $0.fill = ["number": "1"] }?.kind == .fillOfTravellingColumn("number", table: table))
    }

    @Test func aReferenceNeedsOneNumberThatDiffersOnTheTwoSides() {
        #expect(problem { $0.references = ["hotelId": "Beds"] }?.message.contains("whose primary key is [room, bed]") == true)
        #expect(problem { $0.references = ["number": "Hotels"] }?.kind == .referenceInMatch("number", table: tables[1].name))
        #expect(problem { $0.references = ["hotelId": "Codes"] }?.message.contains("means the same row") == true)
    }
}
