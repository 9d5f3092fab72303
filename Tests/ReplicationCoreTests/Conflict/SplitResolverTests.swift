import Testing

@testable import ReplicationCore

/// The outcomes that `Split.md` promises, one by one, as the bot's database sees them.
@Suite struct SplitResolverTests {
    typealias Meeting = SplitMeeting
    private let all = "sync c3 c4 c5 c6 c7 c8 c9"

    private func columns(_ local: [Int: Int], _ remote: [Int: Int], isSeen: Bool = false) throws -> [String] {
        let row = Meeting.row(1)
        let after = isSeen ? Meeting.row(1, local) : row
        return try Meeting(
            rows: [row], local: [Meeting.update(row, Meeting.row(1, local))],
            remote: [
                Meeting.update(after, Meeting.row(1, local.filter { _ in isSeen }.merging(remote) { $1 }))
            ],
            isSeen: isSeen
        ).outcome()
    }

    // MARK: columns

    @Test func differentColumnsOfOneRowDoNotMeet() throws {
        #expect(try columns([1: 7, 3: 7], [2: 8, 4: 8]) == ["update 1: sync c4"])
    }

    @Test func theLaterWriteStands() throws {
        let row = Meeting.row(1)
        var meeting = Meeting(
            rows: [row], local: [Meeting.update(row, Meeting.row(1, [3: 7]))],
            remote: [Meeting.update(row, Meeting.row(1, [3: 8]))])
        #expect(try meeting.outcome() == ["update 1: c3"])
        meeting.remoteTime = 9
        #expect(try meeting.outcome() == ["lost c3 of 1 (column)"])
        // "sync" is the greater name.
        meeting.remoteTime = meeting.localTime
        #expect(try meeting.outcome() == ["update 1: c3"])
    }

    @Test func aSeenWriteIsReplacedWhateverTheClocksSay() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(
            rows: [row], local: [Meeting.update(row, Meeting.row(1, [3: 7]))],
            remote: [Meeting.update(Meeting.row(1, [3: 7]), Meeting.row(1, [3: 8]))], localTime: 500,
            remoteTime: 1,
            isSeen: true)
        #expect(try meeting.outcome() == ["update 1: c3"])
    }

    @Test func thePreferredSideStands() throws {
        #expect(try columns([4: 7, 5: 7], [4: 8, 5: 8]) == ["update 1: c5", "lost c4 of 1 (column)"])
    }

    @Test func greaterAndSmallerAreForTheServerToCompare() throws {
        #expect(
            try columns([6: 7, 7: 7], [6: 8, 7: 8]) == [
                "update 1: c6>7 c7<7", "lost c6 of 1 (column)", "lost c7 of 1 (column)",
            ])
        #expect(try columns([6: 7], [6: 3], isSeen: true) == ["update 1: c6"])
    }

    @Test func countersAddUp() throws {
        #expect(try columns([8: 7], [8: 8]) == ["update 1: c8+"])
        #expect(try columns([8: 7], [8: 8], isSeen: true) == ["update 1: c8+"])
    }

    @Test func theQueueKeepsTheEarlierAndAsksAPerson() throws {
        #expect(try columns([9: 7], [9: 8]) == ["update 1: c9=7", "lost c9 of 1 (column, open)"])
    }

    @Test func aValueThatWentAndCameBackIsStillAWrite() throws {
        let (row, away) = (Meeting.row(1), Meeting.row(1, [4: 7]))
        var meeting = Meeting(
            rows: [row], local: [Meeting.update(row, away), Meeting.update(away, row)],
            remote: [Meeting.update(row, Meeting.row(1, [4: 8]))])
        #expect(try meeting.outcome() == ["lost c4 of 1 (column)"])
        // A guard on the old value holds here. Without the barrier nothing would speak against the write.
        meeting.isRead = false
        #expect(try meeting.outcome() == ["update 1: c4"])
    }

    // MARK: rows

    @Test func twoInsertsOfOneKeyBecomeOneRow() throws {
        let meeting = Meeting(
            local: [Meeting.insert(Meeting.row(1, [1: 7]))], remote: [Meeting.insert(Meeting.row(1, [2: 8]))])
        #expect(
            try meeting.outcome().first == "update 1: sync c3 c5 c6>0 c7<0 c8+ c9=0")
        #expect(try meeting.outcome().dropFirst().allSatisfy { $0.contains("insert_insert") })
    }

    @Test func anUpdateGoesWithItsDeletedRow() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(
            rows: [row], local: [Meeting.delete(row)],
            remote: [Meeting.update(row, Meeting.row(1, [2: 8, 4: 8]))])
        #expect(try meeting.outcome() == ["lost sync of 1 (update_delete)", "lost c4 of 1 (update_delete)"])
    }

    @Test func aRowThatIsNothingButItsKeyIsInTheLogAsWell() throws {
        var ownership = SimulatedRow.ownership
        ownership.columns = ["k": .owned(by: "sync")]
        let layouts = try SimulatedRow.sides.indices.map { side in
            try SplitTable(
                id: 0, relation: SimulatedRow.relation, ownership: ownership, source: SimulatedRow.sides[side],
                target: SimulatedRow.sides[1 - side])
        }
        let row = Meeting.row(1)
        let meeting = Meeting(
            local: [Meeting.insert(row), Meeting.delete(row)], remote: [Meeting.insert(row)], layouts: layouts)
        #expect(try meeting.outcome() == ["lost the row of 1 (delete_insert)"])
    }

    @Test func anUpdateOfTheOldRowDoesNotReachTheNewOne() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(
            rows: [row], local: [Meeting.delete(row), Meeting.insert(Meeting.row(1, [3: 7]))],
            remote: [Meeting.update(row, Meeting.row(1, [2: 8]))])
        #expect(try meeting.outcome() == ["lost sync of 1 (update_delete)"])
    }

    @Test func aDeleteWinsOverUpdates() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(
            rows: [row], local: [Meeting.update(row, Meeting.row(1, [3: 7]))], remote: [Meeting.delete(row)],
            remoteTime: 1)
        #expect(try meeting.outcome() == ["delete 1"])
    }

    @Test func twoDeletesAreOne() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(rows: [row], local: [Meeting.delete(row)], remote: [Meeting.delete(row)])
        #expect(try meeting.outcome() == ["matched"])
    }

    @Test func aRowMadeAgainOutlivesTheOtherSidesDelete() throws {
        let row = Meeting.row(1)
        let replacing = [Meeting.delete(row), Meeting.insert(Meeting.row(1, [3: 7]))]
        let here = Meeting(rows: [row], local: replacing, remote: [Meeting.delete(row)], remoteTime: 900)
        #expect(try here.outcome() == ["matched"])
        let there = Meeting(rows: [row], local: [Meeting.delete(row)], remote: replacing, localTime: 900)
        #expect(try there.outcome() == ["insert 1: \(all)", "matched"])
    }

    @Test func aDeleteTakesARowThatBothHadMade() throws {
        let meeting = Meeting(
            local: [Meeting.insert(Meeting.row(1)), Meeting.delete(Meeting.row(1))],
            remote: [Meeting.insert(Meeting.row(1, [3: 8]))])
        #expect(try meeting.outcome().first == "lost sync of 1 (delete_insert)")
        let other = Meeting(
            local: [Meeting.insert(Meeting.row(1))],
            remote: [Meeting.insert(Meeting.row(1, [3: 8])), Meeting.delete(Meeting.row(1, [3: 8]))])
        #expect(try other.outcome().last == "delete 1")
    }

    @Test func aRowThatIsNotThereStopsNothing() throws {
        let meeting = Meeting(remote: [Meeting.update(Meeting.row(1), Meeting.row(1, [2: 8]))])
        #expect(try meeting.outcome() == ["lost sync of 1 (update_delete)"])
    }

    // MARK: keys

    @Test func aKeyChangeKeepsTheRow() throws {
        let meeting = Meeting(
            rows: [Meeting.row(1)], remote: [Meeting.update(Meeting.row(1), Meeting.row(2))])
        #expect(try meeting.outcome() == ["move 1 to 2: \(all)"])
    }

    @Test func anUpdateOfTheOldKeyIsRecorded() throws {
        let row = Meeting.row(1)
        let meeting = Meeting(
            rows: [row], local: [Meeting.update(row, Meeting.row(2))],
            remote: [Meeting.update(row, Meeting.row(1, [3: 8]))])
        #expect(try meeting.outcome() == ["lost c3 of 1 (key_change)"])
    }

    @Test func aKeyChangeOntoAnExistingRowMerges() throws {
        let meeting = Meeting(
            rows: [Meeting.row(1)], local: [Meeting.insert(Meeting.row(2))],
            remote: [Meeting.update(Meeting.row(1), Meeting.row(2))])
        #expect(try meeting.outcome().prefix(2) == ["delete 1", "update 2: sync c3 c5 c6>0 c7<0 c8+ c9=0"])
    }

    @Test func aKeyChangeOutlivesTheDeleteOfTheOldKey() throws {
        let meeting = Meeting(
            rows: [Meeting.row(1)], local: [Meeting.delete(Meeting.row(1))],
            remote: [Meeting.update(Meeting.row(1), Meeting.row(2))])
        #expect(try meeting.outcome() == ["insert 2: \(all)", "matched", "created"])
    }

    @Test func twoKeyChangesMakeTwoRows() throws {
        let meeting = Meeting(
            rows: [Meeting.row(1)], local: [Meeting.update(Meeting.row(1), Meeting.row(2))],
            remote: [Meeting.update(Meeting.row(1), Meeting.row(3))])
        #expect(try meeting.outcome() == ["insert 3: \(all)", "matched", "created"])
    }
}
