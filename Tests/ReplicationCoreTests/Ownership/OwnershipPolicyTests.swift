import ReplicationCore
import Testing

/// The hotel's tables, as a catalog describes them.
enum Hotel {
    static func column(
        _ name: String, _ type: String = "text", category: String = "S", isGenerated: Bool = false
    )
        -> ColumnDescription
    {
        ColumnDescription(
            name: name, type: type, category: category, isNotNull: false, isGenerated: isGenerated)
    }

    static func table(
        _ name: String, schema: String = "public", _ columns: [String], primaryKey: [String] = [],
        uniqueKeys: [[String]] = []
    ) -> TableDescription {
        TableDescription(
            name: QualifiedName(schema: schema, name: name), columns: columns.map { column($0) },
            primaryKey: primaryKey, identityColumns: primaryKey, uniqueKeys: uniqueKeys)
    }

    static let reservas = table(
        "Reservas", ["id", "bookingId", "notes", "status", "phone", "updatedAt"], primaryKey: ["id"],
        uniqueKeys: [["bookingId"]])
    static let leads = table("Leads", ["id", "phone", "name"], primaryKey: ["id"], uniqueKeys: [["phone"]])

    static func configuration(
        _ tables: [TableRule], backend: LinderoConfiguration.Backend = .split, defaults: Defaults = Defaults()
    ) -> LinderoConfiguration {
        LinderoConfiguration(
            backend: backend,
            databases: [
                DatabaseSettings(name: "bot", url: .environment("A")),
                DatabaseSettings(name: "sync", url: .environment("B")),
            ], origin: "bot", defaults: defaults, tables: tables)
    }

    static let reservasRule = TableRule(
        pattern: "Reservas", match: ["bookingId"], privateColumns: ["notes"],
        owned: ["bot": ["notes"], "sync": ["status", "updatedAt"]],
        shared: ["phone": SharedColumnRule(policy: .lastWrite)], marks: ["": SourceMark(line: 4, column: 3)])

    static func name(_ name: String, schema: String = "public") -> QualifiedName {
        QualifiedName(schema: schema, name: name)
    }
}

@Suite struct OwnershipPolicyTests {
    private func problems(
        _ rules: [TableRule], tables: [TableDescription], otherNames: [QualifiedName] = []
    ) throws -> [OwnershipProblem] {
        try #require(throws: OwnershipError.self) {
            try OwnershipPolicy.resolve(Hotel.configuration(rules), tables: tables, otherNames: otherNames)
        }.problems
    }

    @Test func listedColumnsGetTheirOwners() throws {
        var rule = Hotel.reservasRule
        rule.insertOwners = ["sync"]
        let policy = try OwnershipPolicy.resolve(Hotel.configuration([rule]), tables: [Hotel.reservas])
        let table = try #require(policy.tables[Hotel.name("Reservas")])
        #expect(table.match == ["bookingId"])
        #expect(table.insertOwners == ["sync"])
        #expect(table.deleteOwners == ["bot", "sync"])
        #expect(table.privateColumns == ["notes"])
        #expect(table.columns["notes"] == .owned(by: "bot"))
        #expect(table.columns["phone"] == .shared(SharedColumnRule(policy: .lastWrite)))
        // Keys that nobody lists belong to the one that inserts.
        #expect(table.columns["id"] == .owned(by: "sync"))
        #expect(table.columns["bookingId"] == .owned(by: "sync"))
    }

    @Test func unlistedKeyIsSharedWhenSeveralInsert() throws {
        let policy = try OwnershipPolicy.resolve(
            Hotel.configuration([Hotel.reservasRule]), tables: [Hotel.reservas])
        #expect(
            policy.tables[Hotel.name("Reservas")]?.columns["bookingId"]
                == .shared(SharedColumnRule(policy: .queue)))
    }

    @Test func unlistedColumnStopsByDefault() throws {
        var rule = Hotel.reservasRule
        rule.owned["sync"] = ["status"]
        let found = try problems([rule], tables: [Hotel.reservas])
        #expect(found.map(\.kind) == [.unowned(["updatedAt"], table: Hotel.name("Reservas"))])
        #expect(found[0].mark == SourceMark(line: 4, column: 3))
    }

    @Test func unlistedColumnGoesToTheOriginWhenAsked() throws {
        var rule = Hotel.reservasRule
        rule.owned["sync"] = ["status"]
        let policy = try OwnershipPolicy.resolve(
            Hotel.configuration([rule], defaults: Defaults(unlistedColumn: .origin)), tables: [Hotel.reservas]
        )
        #expect(policy.tables[Hotel.name("Reservas")]?.columns["updatedAt"] == .owned(by: "bot"))
    }

    @Test func starTakesEveryColumnNotNamedElsewhere() throws {
        let rule = TableRule(
            pattern: "Leads", match: ["phone"], owned: ["bot": ["*"], "sync": ["name"]])
        let policy = try OwnershipPolicy.resolve(Hotel.configuration([rule]), tables: [Hotel.leads])
        let columns = try #require(policy.tables[Hotel.name("Leads")]?.columns)
        #expect(columns == ["id": .owned(by: "bot"), "phone": .owned(by: "bot"), "name": .owned(by: "sync")])
    }

    @Test func exactNameBeatsPatternAndLaterPatternBeatsEarlier() throws {
        let rules = [
            TableRule(pattern: "Leads", owned: ["sync": ["*"]]),
            TableRule(pattern: "*", owned: ["bot": ["*"]]),
            TableRule(pattern: "Re*", owned: ["sync": ["*"]]),
        ]
        let other = Hotel.table("Other", schema: "crm", ["id"], primaryKey: ["id"])
        let policy = try OwnershipPolicy.resolve(
            Hotel.configuration(rules), tables: [Hotel.reservas, Hotel.leads, other])
        #expect(policy.tables[Hotel.name("Leads")]?.columns["name"] == .owned(by: "sync"))
        #expect(policy.tables[Hotel.name("Reservas")]?.columns["phone"] == .owned(by: "sync"))
        #expect(policy.tables[Hotel.name("Other", schema: "crm")]?.columns["id"] == .owned(by: "bot"))
    }

    @Test func generatedColumnsHaveNoOwner() throws {
        var table = Hotel.leads
        table.columns.append(Hotel.column("total", isGenerated: true))
        let rule = TableRule(pattern: "Leads", owned: ["bot": ["*", "total"]])
        let policy = try OwnershipPolicy.resolve(Hotel.configuration([rule]), tables: [table])
        #expect(policy.tables[table.name]?.columns["total"] == nil)
        #expect(policy.tables[table.name]?.columns.count == 3)
    }

    @Test func unknownTableNamesTheNearest() throws {
        let rule = TableRule(pattern: "reserva", marks: ["": SourceMark(line: 9, column: 3)])
        let found = try problems(
            [rule], tables: [], otherNames: [Hotel.name("Reservas"), Hotel.name("Leads")])
        #expect(
            found == [
                OwnershipProblem(
                    .unknownTable("reserva"), mark: SourceMark(line: 9, column: 3), suggestion: "Reservas")
            ])
    }

    @Test func tableInAnotherSchemaIsTheNearest() throws {
        let found = try problems(
            [TableRule(pattern: "Leads")], tables: [Hotel.table("Leads", schema: "crm", ["id"])])
        #expect(found.map(\.suggestion) == ["crm.Leads"])
    }

    @Test func patternWithoutTablesIsAProblem() throws {
        let found = try problems([TableRule(pattern: "crm.*", owned: ["bot": ["*"]])], tables: [Hotel.leads])
        #expect(found.map(\.kind) == [.patternMatchesNothing("crm.*")])
    }

    @Test func unknownColumnNamesTheNearestAndItsPlace() throws {
        var rule = Hotel.reservasRule
        rule.owned["sync"] = ["statuss", "updatedAt", "status"]
        rule.marks["statuss"] = SourceMark(line: 7, column: 14)
        let found = try problems([rule], tables: [Hotel.reservas])
        #expect(found.count == 1)
        #expect(found[0].suggestion == "status")
        #expect(found[0].mark == SourceMark(line: 7, column: 14))
        #expect(found[0].message.contains("table \"Reservas\" has no column \"statuss\""))
    }

    @Test func patternMayNameColumnsThatSomeOfItsTablesLack() throws {
        let rule = TableRule(
            pattern: "*", owned: ["bot": ["*"]], shared: ["updatedAt": SharedColumnRule(policy: .max)])
        let policy = try OwnershipPolicy.resolve(
            Hotel.configuration([rule]), tables: [Hotel.reservas, Hotel.leads])
        #expect(policy.tables[Hotel.name("Leads")]?.columns["updatedAt"] == nil)
        var wrong = rule
        wrong.shared = ["updatdAt": SharedColumnRule(policy: .max)]
        let found = try problems([wrong], tables: [Hotel.reservas, Hotel.leads])
        #expect(found.map(\.suggestion) == ["updatedAt"])
    }

    @Test func matchMustBeUnique() throws {
        var rule = Hotel.reservasRule
        rule.match = ["phone"]
        rule.owned["sync", default: []].append("bookingId")
        let found = try problems([rule], tables: [Hotel.reservas])
        #expect(
            found.map(\.kind) == [
                .matchIsNotUnique(["phone"], table: Hotel.name("Reservas"), keys: [["id"], ["bookingId"]])
            ])
        #expect(found[0].message.contains(#"CREATE UNIQUE INDEX ON "public"."Reservas" ("phone");"#))
    }

    @Test func matchInAnotherOrderIsTheSameKey() throws {
        let table = Hotel.table("Nights", ["room", "day"], primaryKey: ["room", "day"])
        let rule = TableRule(pattern: "Nights", match: ["day", "room"], owned: ["bot": ["*"]])
        let policy = try OwnershipPolicy.resolve(Hotel.configuration([rule]), tables: [table])
        #expect(policy.tables[table.name]?.match == ["day", "room"])
    }

    @Test func partitionsFollowTheirRoot() throws {
        var partition = Hotel.table("Log_2026", ["id"], primaryKey: ["id"])
        partition.isPartition = true
        let root = Hotel.table("Log", ["id"], primaryKey: ["id"])
        let rule = TableRule(pattern: "Log*", owned: ["bot": ["*"]])
        let policy = try OwnershipPolicy.resolve(Hotel.configuration([rule]), tables: [root, partition])
        #expect(policy.tables.keys.sorted() == [root.name])
        let found = try problems(
            [TableRule(pattern: "Log_2026", owned: ["bot": ["*"]])], tables: [root, partition])
        #expect(found.map(\.kind) == [.partition(partition.name)])
    }

    @Test func deltaNeedsANumber() throws {
        var rule = Hotel.reservasRule
        rule.shared = ["phone": SharedColumnRule(policy: .delta)]
        let found = try problems([rule], tables: [Hotel.reservas])
        #expect(
            found.map(\.kind) == [.deltaNeedsNumber("phone", table: Hotel.name("Reservas"), type: "text")])
    }

    @Test func withoutRulesTheOriginOwnsEveryTable() throws {
        for backend in [LinderoConfiguration.Backend.shared, .replica] {
            let policy = try OwnershipPolicy.resolve(
                Hotel.configuration([], backend: backend), tables: [Hotel.reservas, Hotel.leads])
            #expect(policy.tables.count == 2)
            #expect(policy.tables[Hotel.name("Leads")]?.columns["name"] == .owned(by: "bot"))
            #expect(policy.tables[Hotel.name("Leads")]?.insertOwners == ["bot"])
        }
        let found = try problems([], tables: [Hotel.leads])
        #expect(found.map(\.kind) == [.splitWithoutTables])
    }

    @Test func everyProblemIsReportedAtOnce() throws {
        var first = Hotel.reservasRule
        first.owned["sync"] = ["statsu", "updatedAt"]
        first.privateColumns = ["nots"]
        let found = try problems([first, TableRule(pattern: "Lead")], tables: [Hotel.reservas, Hotel.leads])
        #expect(found.count == 4)
    }

    @Test func aThousandTablesResolveInNoTimeThatGrowsWithTheirSquare() throws {
        let columns = (0..<20).map { "column\($0)" }
        let tables = (0..<1_000).map { Hotel.table("Table\($0)", ["id"] + columns, primaryKey: ["id"]) }
        var rules = tables.map {
            TableRule(pattern: $0.name.name, owned: ["bot": ["*"], "sync": Array(columns.prefix(5))])
        }
        rules.append(TableRule(pattern: "public.*", owned: ["bot": ["*"]]))
        let configuration = Hotel.configuration(rules)
        let clock = ContinuousClock()
        var count = 0
        let duration = try clock.measure {
            count = try OwnershipPolicy.resolve(configuration, tables: tables).tables.count
        }
        #expect(count == 1_000)
        #expect(duration < .seconds(30))
    }
}
