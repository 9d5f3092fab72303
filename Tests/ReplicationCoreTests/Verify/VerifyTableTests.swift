import ReplicationCore
import Testing

@Suite struct VerifyTableTests {
    /// Swift finds them equal, PostgreSQL does not.
    @Test func keysThatAreSpeltInOtherBytesAreOthers() {
        let keys = ["caf\u{e9}", "cafe\u{301}"].map { VerifyKey(["a", $0]) }
        #expect(keys[0].values[1] == keys[1].values[1])
        #expect(keys[0] != keys[1] && Set(keys).count == 2)
        #expect(VerifyKey(["ab", "c"]) != VerifyKey(["a", "bc"]) && VerifyKey(["a"]) == VerifyKey(["a"]))
    }

    private static let name = QualifiedName(schema: "public", name: "Reservas")
    private static let replica = VerifyDirection(source: "bot", target: "sync", backend: .replica)
    private static let split = VerifyDirection(source: "bot", target: "sync", backend: .split)

    private func column(_ name: String, _ oid: UInt32 = 25, notNull: Bool = true, type: String = "text") -> ColumnDescription {
        ColumnDescription(name: name, type: type, typeOID: oid, baseTypeOID: oid, castName: type, isNotNull: notNull)
    }

    private func table(_ columns: [ColumnDescription], key: [String] = ["id"], unique: [[String]] = []) -> TableDescription {
        TableDescription(name: Self.name, columns: columns, primaryKey: key, identityColumns: key, uniqueKeys: unique)
    }

    private var ownership: TableOwnership {
        TableOwnership(
            table: Self.name, match: ["bookingId"], insertOwners: ["sync"], deleteOwners: ["sync"],
            privateColumns: ["crmNotes", "secret"],
            columns: [
                "id": .owned(by: "sync"), "bookingId": .owned(by: "sync"), "crmNotes": .owned(by: "bot"),
                "secret": .owned(by: "sync"), "thread": .owned(by: "bot"),
                "phone": .shared(SharedColumnRule(policy: .lastWrite)),
            ])
    }

    private var reservas: TableDescription {
        table(
            [column("id", 20)] + ["bookingId", "crmNotes", "secret", "thread", "phone"].map { column($0) }, unique: [["bookingId"]])
    }

    @Test func replicaComparesWhatTravelsToIt() throws {
        let found = try VerifyTable.make(source: reservas, target: reservas, ownership: ownership, direction: Self.replica)
        #expect(found.columns.map(\.name) == ["id", "bookingId", "secret", "thread", "phone"])
        #expect(found.key.map(\.name) == ["bookingId"])
        #expect(!Self.replica.isTwoWay)
    }

    @Test func splitComparesWhatTravelsEitherWayByTheMatchKey() throws {
        let found = try VerifyTable.make(source: reservas, target: reservas, ownership: ownership, direction: Self.split)
        #expect(found.columns.map(\.name) == ["id", "bookingId", "thread", "phone"])
        #expect(found.key.map(\.name) == ["bookingId"])
        #expect(Self.split.isTwoWay && Self.split.reverseName == "sync->bot")
    }

    @Test func matchColumnsThatMayBeNullGiveWayToThePrimaryKey() throws {
        var source = reservas
        source.columns[1].isNotNull = false
        let found = try VerifyTable.make(source: source, target: source, ownership: ownership, direction: Self.replica)
        #expect(found.key.map(\.name) == ["id"])
        var alone = source
        alone.primaryKey = []
        #expect(throws: VerifyTable.Obstacle.nullableKey(["bookingId"])) {
            try VerifyTable.make(source: alone, target: alone, ownership: ownership, direction: Self.replica)
        }
    }

    @Test func obstaclesAreNamed() {
        let plain = table([column("id", 20), column("v")])
        func make(_ source: TableDescription, _ target: TableDescription?) throws -> VerifyTable {
            try VerifyTable.make(source: source, target: target, ownership: nil, direction: Self.replica)
        }
        #expect(throws: VerifyTable.Obstacle.notOnTarget) { try make(plain, nil) }
        #expect(throws: VerifyTable.Obstacle.missingColumns(["v"])) { try make(plain, table([column("id", 20)])) }
        #expect(throws: VerifyTable.Obstacle.noKey) { try make(table([column("v")], key: []), table([column("v")], key: [])) }
        let citext = table([column("id", 99_999, type: "public.citext")])
        #expect(throws: VerifyTable.Obstacle.keyType(column: "id", type: "public.citext")) { try make(citext, citext) }
    }

    @Test func oneWalkIsEnoughOnlyWhereBothSidesSortAlike() throws {
        func walks(_ oid: UInt32, _ other: UInt32? = nil, _ collations: (String?, String?) = (nil, nil)) throws -> Int {
            try VerifyTable.make(
                source: table([column("id", oid)]), target: table([column("id", other ?? oid, type: other == 1700 ? "numeric" : "text")]),
                ownership: nil,
                direction: Self.replica, collations: { side, _ in side == .source ? collations.0 : collations.1 }
            ).walks.count
        }
        #expect(try walks(20) == 1)
        #expect(try walks(23, 20) == 1)
        #expect(try walks(23, 1700) == 2)
        #expect(try walks(2950) == 1)
        #expect(try walks(25) == 2)
        #expect(try walks(25, nil, ("C", "C")) == 1)
        #expect(try walks(25, nil, ("C", "en_US/2.36")) == 2)
        #expect(try walks(3802, nil, ("C", "C")) == 2)
    }

    @Test func keysThatAreEqualOnOneSideAloneAreNoKeys() {
        func obstacle(
            _ source: (UInt32, String), _ target: (UInt32, String), _ collations: (String?, String?) = (nil, nil)
        ) -> VerifyTable.Obstacle? {
            do throws(VerifyTable.Obstacle) {
                _ = try VerifyTable.make(
                    source: table([column("id", source.0, type: source.1)]), target: table([column("id", target.0, type: target.1)]),
                    ownership: nil, direction: Self.replica,
                    collations: { side, _ in side == .source ? collations.0 : collations.1 })
                return nil
            } catch {
                return error
            }
        }
        let loose = VerifyTable.looseCollation + "i/und"
        #expect(obstacle((23, "integer"), (20, "bigint")) == nil)
        #expect(obstacle((23, "integer"), (1700, "numeric")) == nil)
        #expect(obstacle((1043, "character varying(5)"), (25, "text")) == nil)
        #expect(obstacle((1700, "numeric(10,2)"), (1700, "numeric")) == nil)
        #expect(obstacle((25, "text"), (25, "text"), (loose, loose)) == nil)
        let refused = VerifyTable.Obstacle.keyEquality(column: "id")
        #expect(obstacle((1700, "numeric"), (1700, "numeric(10,2)")) == refused)
        #expect(obstacle((1114, "timestamp without time zone"), (1114, "timestamp(0) without time zone")) == refused)
        #expect(obstacle((25, "text"), (1042, "character(8)")) == refused)
        #expect(obstacle((1042, "character(8)"), (25, "text")) == refused)
        #expect(obstacle((25, "text"), (25, "text"), ("C", loose)) == refused)
    }

    @Test func walksFollowTheIndexOfTheirSide() throws {
        let columns = [column("id", 20), column("a", 20), column("b", 20)]
        let source = table(columns, key: ["b", "a"])
        var ownership = ownership
        ownership.match = ["a", "b"]
        ownership.columns = ["a": .owned(by: "bot"), "b": .owned(by: "bot"), "id": .owned(by: "bot")]
        let same = try VerifyTable.make(source: source, target: source, ownership: ownership, direction: Self.replica)
        #expect(same.key.map(\.name) == ["b", "a"])
        #expect(same.walks == [.init(side: .source, order: [0, 1])])
        let other = try VerifyTable.make(
            source: source, target: table(columns, key: ["a", "b"]), ownership: ownership, direction: Self.replica)
        #expect(other.walks == [.init(side: .source, order: [0, 1]), .init(side: .target, order: [1, 0])])
    }

    @Test func candidatesAreWhatEitherListHasAloneOrOtherwise() {
        func row(_ key: String, _ hash: String) -> HashedRow { HashedRow(key: VerifyKey([key]), hash: hash) }
        let found = RowComparison.candidates(
            [row("a", "1"), row("b", "2"), row("c", "3")], [row("c", "3"), row("b", "x"), row("d", "4")])
        #expect(found.map { $0.values[0] } == ["a", "b", "d"])
        #expect(RowComparison.candidates([], []).isEmpty)
    }

    @Test func progressIsWholeOnlyAtTheEndAndCountsItsOwnSpeed() {
        var progress = VerifyProgress()
        progress.tablesTotal = 2
        progress.rowsTotal = 1_000
        progress.rowsDone = 1_500
        #expect(progress.fraction == 0.99)
        progress.rowsDone = 600
        progress.rowsBefore = 200
        #expect(progress.rowsPerSecond(elapsedSeconds: 4) == 100)
        #expect(progress.etaSeconds(elapsedSeconds: 4) == 4)
        #expect(progress.etaSeconds(elapsedSeconds: 0) == nil)
        progress.tablesDone = 2
        #expect(progress.fraction == 1)
    }

    @Test func waitsGrowFromAMillisecondAndStayShortForWhoeverIsNearlyThere() {
        var schedule = WaitSchedule()
        #expect((0..<7).map { _ in schedule.nextMilliseconds() } == [1, 2, 4, 8, 16, 25, 25])
        var waited = 81
        while waited < 5_000 { waited += schedule.nextMilliseconds() }
        #expect(schedule.nextMilliseconds() == WaitSchedule.patientMilliseconds)
    }

    @Test(arguments: [("5s", 5_000), ("250ms", 250), ("1min", 60_000), ("2h", 7_200_000), ("0s", 0)])
    func timesHaveAUnit(_ text: String, _ milliseconds: Int) {
        #expect(WaitDuration.milliseconds(text) == milliseconds)
    }

    @Test(arguments: ["5", "-1s", "s", "1.5s", "99h", "9999999999s", "5 s", "+5s", "٣s"])
    func timesThatMakeNoSenseAreRefused(_ text: String) {
        #expect(WaitDuration.milliseconds(text) == nil)
    }
}
