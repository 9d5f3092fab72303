import Testing

@testable import ReplicationCore

/// What a split carries while services move between its databases.
@Suite struct TransitionTests {
    private static let declared = TableOwnership(
        table: Hotel.name("Reservas"), match: ["bookingId"], insertOwners: ["sync"], deleteOwners: ["sync"],
        privateColumns: ["notes", "token"],
        columns: [
            "bookingId": .owned(by: "sync"), "id": .owned(by: "sync"), "notes": .owned(by: "bot"), "seen": .owned(by: "bot"),
            "status": .owned(by: "sync"), "token": .owned(by: "sync"),
            "phone": .shared(SharedColumnRule(policy: .lastWrite)), "visits": .shared(SharedColumnRule(policy: .delta)),
        ])
    private static let policy = OwnershipPolicy(tables: [declared.table: declared])
    private let moving = policy.inTransition(origin: "bot", other: "sync").tables[declared.table] ?? declared

    private func travelling(_ ownership: TableOwnership, from source: String, to target: String) -> [String] {
        ownership.columns.keys.sorted().filter { ownership.travels($0, from: source, to: target, backend: .split) }
    }

    @Test func ownedColumnsTravelBothWaysAndTheirOwnersDatabaseIsPreferred() {
        #expect(moving.columns["seen"] == .shared(SharedColumnRule(policy: .prefer, side: "bot")))
        #expect(moving.columns["status"] == .shared(SharedColumnRule(policy: .prefer, side: "sync")))
        #expect(moving.columns["phone"] == .shared(SharedColumnRule(policy: .lastWrite)))
        #expect(travelling(Self.declared, from: "bot", to: "sync") == ["bookingId", "phone", "seen", "visits"])
        #expect(
            travelling(moving, from: "bot", to: "sync") == ["bookingId", "id", "phone", "seen", "status", "token", "visits"])
        #expect(moving.insertOwners == ["bot", "sync"] && moving.deleteOwners == ["bot", "sync"])
        #expect(moving.owner(of: "seen") == "bot" && moving.owner(of: "phone") == nil)
    }

    @Test func theOriginsPrivateColumnsOnlyComeHome() {
        #expect(
            travelling(moving, from: "sync", to: "bot")
                == ["bookingId", "id", "notes", "phone", "seen", "status", "token", "visits"])
        #expect(!moving.travels("notes", from: "bot", to: "sync", backend: .replica))
        let forward = VerifyDirection(source: "bot", target: "sync", backend: .split)
        #expect(!forward.compares("notes", moving) && forward.compares("token", moving))
        for policy in [Self.policy, Self.policy.inTransition(origin: "bot", other: "sync")] {
            #expect(policy.stayingColumns(of: "sync") == [Self.declared.table: ["token"]])
            #expect(policy.inTransition(origin: "bot", other: "sync").tables[Self.declared.table] == moving)
        }
    }

    /// The copy before a split that begins with a transition carries what a replica carries.
    @Test func theCopyCarriesTheSame() {
        for column in Self.declared.columns.keys {
            #expect(
                moving.travels(column, from: "bot", to: "sync", backend: .replica)
                    == Self.declared.travels(column, from: "bot", to: "sync", backend: .replica), "\(column)")
        }
    }

    @Test func nothingIsSilentAndNothingTravelsOneWayAlone() {
        let table = Hotel.name("HotelApart")
        let settled = TableOwnership(
            table: table, match: ["id"], insertOwners: ["sync"], deleteOwners: ["sync"], privateColumns: [],
            columns: ["id": .owned(by: "sync"), "name": .owned(by: "sync")])
        #expect(settled.isOneWay(from: "sync", to: "bot") && settled.isSilent("bot", towards: "sync"))
        let policy = OwnershipPolicy(tables: [table: settled]).inTransition(origin: "bot", other: "sync")
        let moving = policy.tables[table]
        #expect(policy.isInTransition && moving?.isOneWay(from: "sync", to: "bot") == false)
        #expect(moving?.isSilent("bot", towards: "sync") == false)
        #expect(moving?.surrogate == nil)
    }

    @Test func columnsKeepTheirNumbersWhenOwnershipWidens() throws {
        let relation = relation(["bookingId", "notes", "phone", "seen", "status", "token", "visits"])
        func numbers(_ ownership: TableOwnership) throws -> [String: Int] {
            let table = try SplitTable(id: 0, relation: relation, ownership: ownership, source: "sync", target: "bot")
            return table.columns.reduce(into: [:]) { numbers, column in
                if case .shared(let shared) = column.role { numbers[column.name] = shared.id }
            }
        }
        let (before, after) = (try numbers(Self.declared), try numbers(moving))
        #expect(before.keys.sorted() == ["phone", "visits"])
        for (name, number) in before { #expect(after[name] == number) }
        #expect(Set(after.values).count == after.count)
    }

    private func relation(_ names: [String]) -> RelationMessage {
        RelationMessage(
            id: 1, name: Self.declared.table, replicaIdentity: .full,
            columns: names.map { RelationMessage.Column(isKey: true, name: $0, typeOID: 20, typeModifier: -1) })
    }

    // MARK: private columns that come home

    private static let columns = ["bookingId", "notes", "status"]

    private func layouts() throws -> (forward: SplitTable, backward: SplitTable) {
        let relation = relation(Self.columns)
        return (
            try SplitTable(id: 0, relation: relation, ownership: moving, source: "bot", target: "sync"),
            try SplitTable(id: 0, relation: relation, ownership: moving, source: "sync", target: "bot")
        )
    }

    /// What bot makes of a change of sync, after one of its own that sync had not seen.
    private func meeting(local: SimulatedChange?, remote: SimulatedChange) throws -> Resolution {
        let layouts = try layouts()
        func reader(_ origin: String) -> SplitReader {
            SplitReader.restart(
                ownOrigin: origin, outgoing: SplitProgress(), incoming: SplitProgress(),
                tableIDs: [Self.declared.table: 0], historyLimitBytes: 1 << 20, storage: .memory())
        }
        func chunk(_ change: SimulatedChange) -> ChangeChunk {
            SimulatedTransaction(
                commitLSN: LSN(200), endLSN: LSN(210), commitTime: 10, origin: nil, notes: [], changes: [change]
            ).chunk
        }
        var (bot, sync) = (reader("into_bot"), reader("into_sync"))
        if let local { _ = try bot.read(chunk(local)) { _ in layouts.forward } }
        let transactions = try sync.read(chunk(remote)) { _ in layouts.backward }
        let transaction = try #require(transactions.first)
        let operation = try #require(transaction.operations.first)
        var effects = GroupEffects()
        effects.note(operation.key, isPresent: true)
        return try SplitResolver(local: "bot", remote: "sync").resolve(
            operation, of: transaction, table: layouts.backward, against: bot.history, effects: &effects)
    }

    @Test func aPrivateColumnThatBothSidesWroteIsTheOwners() throws {
        let local = SplitMeeting.update([1, 5, 0], [1, 6, 0])
        let lost = try meeting(local: local, remote: SplitMeeting.update([1, nil, 0], [1, 7, 0]))
        #expect(lost.steps.isEmpty && lost.conflicts.count == 1)
        let alone = try meeting(local: nil, remote: SplitMeeting.update([1, nil, 0], [1, 7, 0]))
        #expect(alone.steps.count == 1 && alone.conflicts.isEmpty)
    }

    /// The other side has never seen the value: its row must not empty it.
    @Test func aChangedKeyTakesThePrivateValueAlong() throws {
        let moved = try meeting(local: nil, remote: SplitMeeting.update([1, nil, 0], [2, nil, 3]))
        guard case .move(_, _, let writes)? = moved.steps.first else {
            Issue.record("no move: \(moved)")
            return
        }
        let layouts = try layouts()
        #expect(writes.map { layouts.backward.columns[$0.column].name } == ["status"])
        let written = try meeting(local: nil, remote: SplitMeeting.update([1, nil, 0], [2, 9, 3]))
        guard case .move(_, _, let both)? = written.steps.first else { return }
        #expect(both.count == 2)
    }
}
