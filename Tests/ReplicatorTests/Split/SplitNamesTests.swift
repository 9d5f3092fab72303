import ReplicationCore
import Testing

@testable import Replicator

/// What becomes of a split's tables whose names change on one side, or on both.
@Suite struct SplitNamesTests {
    private static let guest = QualifiedName(schema: "public", name: "guest")
    private static let visitor = QualifiedName(schema: "public", name: "visitor")

    /// Of a table that is 10 on the origin and 20 on the other side, and one that is 11 and 21.
    private func names(
        _ tables: [SplitNames.Table] = [.init(name: guest, oids: SidePair(origin: [10], other: [20]))],
        origin: [UInt32: QualifiedName], other: [UInt32: QualifiedName], roots: [UInt32: UInt32] = [:], listed: Set<QualifiedName> = [guest]
    ) -> SplitNames {
        SplitNames(
            tables: tables, catalogs: SidePair(origin: .init(names: origin, roots: roots), other: .init(names: other)), listed: listed)
    }

    private static let two: [SplitNames.Table] = [
        .init(name: guest, oids: SidePair(origin: [10], other: [20])), .init(name: visitor, oids: SidePair(origin: [11], other: [21])),
    ]

    @Test func whatHasItsNameStays() throws {
        #expect(try names(origin: [10: Self.guest], other: [20: Self.guest]).changes() == .init())
    }

    @Test func theRecordFollowsANameThatBothSidesGave() throws {
        let found = try names(origin: [10: Self.visitor], other: [20: Self.visitor], listed: [Self.visitor]).changes()
        #expect(found == .init(renamed: [Self.guest: Self.visitor]))
    }

    /// What is kept under their names would have to change places, too, on both sides at one moment.
    @Test func twoThatChangePlacesStop() {
        let both = names(
            Self.two, origin: [10: Self.visitor, 11: Self.guest], other: [20: Self.visitor, 21: Self.guest], listed: [Self.guest, Self.visitor])
        #expect(both.problem == .exchanged(Self.guest, .origin, with: Self.visitor))
        let one = names(
            Self.two, origin: [10: Self.guest, 11: Self.visitor], other: [20: Self.visitor, 21: Self.guest], listed: [Self.guest, Self.visitor])
        #expect(one.problem == .exchanged(Self.guest, .other, with: Self.visitor))
    }

    @Test func twoNamesOfOneTableStop() {
        let found = names(origin: [10: Self.visitor], other: [20: Self.guest])
        #expect(found.problem == .namedApart(Self.guest, SidePair(origin: Self.visitor, other: Self.guest)))
    }

    @Test func aNameOnRecordIsNoOthers() {
        let left = SplitNames.Table(name: Self.visitor, oids: SidePair(origin: [11], other: [21]), hasLeft: true)
        let old = QualifiedName(schema: "public", name: "visitor_old")
        let found = names(
            [Self.two[0], left], origin: [10: Self.visitor, 11: old], other: [20: Self.visitor, 21: old], listed: [Self.visitor])
        #expect(found.problem == .taken(Self.guest, Self.visitor))
    }

    @Test func aNameThatTheRulesLackStops() {
        #expect(names(origin: [10: Self.visitor], other: [20: Self.visitor]).problem == .unlisted(Self.guest, Self.visitor))
    }

    @Test func aTableThatIsGoneFromOneSideStops() throws {
        #expect(names(origin: [10: Self.guest], other: [:]).problem == .gone(Self.guest, .other))
        #expect(try names(origin: [:], other: [:]).changes() == .init(), "dropped on both it has nothing more to send")
    }

    @Test func aTableInTheNameOfAMemberStops() {
        let old = QualifiedName(schema: "public", name: "guest_old")
        #expect(names(origin: [10: Self.guest], other: [29: Self.guest]).problem == .replaced(Self.guest, .other, by: 29, now: nil))
        #expect(names(origin: [10: Self.guest], other: [20: old, 29: Self.guest]).problem == .replaced(Self.guest, .other, by: 29, now: old))
        let both = names(origin: [10: old, 19: Self.guest], other: [20: old, 29: Self.guest], listed: [Self.guest, old])
        #expect(both.problem == .replaced(Self.guest, .origin, by: 19, now: old))
        let member = names(Self.two, origin: [10: Self.guest, 11: Self.visitor], other: [21: Self.guest], listed: [Self.guest, Self.visitor])
        #expect(member.problem == .exchanged(Self.guest, .other, with: Self.visitor), "no statement that gives one table to two")
    }

    @Test func aNewTableUnderAnUnlistedFormerNameIsNobodysMatter() throws {
        let found = try names(origin: [10: Self.visitor, 19: Self.guest], other: [20: Self.visitor], listed: [Self.visitor]).changes()
        #expect(found == .init(renamed: [Self.guest: Self.visitor]))
    }

    @Test func aTableThatWasMadePartitionedIsTheSame() throws {
        let part = QualifiedName(schema: "public", name: "guest_0")
        let found = try names(origin: [10: part, 19: Self.guest], other: [20: Self.guest], roots: [10: 19]).changes()
        #expect(found == .init(oids: SidePair(origin: [Self.guest: 19], other: [:])))
    }

    @Test func whatNobodyKnewIsLearntWhereItIs() throws {
        let found = try names([.init(name: Self.guest)], origin: [10: Self.guest], other: [:]).changes()
        #expect(found == .init(oids: SidePair(origin: [Self.guest: 10], other: [:])))
    }

    /// A side that was not known before has it under the new name already.
    @Test func aSideOfWhichNothingIsKnownHasTheOthersName() throws {
        let found = try names(
            [.init(name: Self.guest, oids: SidePair(origin: [10], other: []))], origin: [10: Self.visitor], other: [20: Self.visitor],
            listed: [Self.visitor]
        ).changes()
        #expect(found == .init(renamed: [Self.guest: Self.visitor], oids: SidePair(origin: [:], other: [Self.visitor: 20])))
    }

    @Test func whatIsLeftOutIsKnownUnderItsNewName() throws {
        let left = [SplitNames.Table(name: Self.guest, oids: SidePair(origin: [10], other: [20]), hasLeft: true)]
        #expect(try names(left, origin: [10: Self.visitor], other: [20: Self.guest], listed: []).changes() == .init())
        #expect(try names(left, origin: [:], other: [:], listed: [Self.guest]).changes() == .init())
        let back = try names(left, origin: [10: Self.visitor], other: [20: Self.visitor], listed: []).changes()
        #expect(back == .init(renamed: [Self.guest: Self.visitor]))
        var given = left
        given[0].isGivenUp = true
        #expect(try names(given, origin: [10: Self.visitor], other: [20: Self.visitor], listed: []).changes() == .init(), "by its former name")
    }

    @Test func aTableOfNoRulesIsNobodysMatter() throws {
        #expect(try names(origin: [10: Self.visitor], other: [:], listed: []).changes() == .init())
    }
}
