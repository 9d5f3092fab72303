import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What is on record, and what is counted.
@Suite struct ConflictStoreTests {
    @Test func theSameLoserIsOnRecordOnce() async throws {
        let scene = try await ConflictScene()
        #expect(try await scene.record() == 1)
        #expect(try await scene.record(kept: "other") == nil)
        #expect(try await scene.record(column: "nights") != nil)
        #expect(try await scene.record(key: #"{"bookingId": "b-2"}"#) != nil)
        #expect(try await scene.record(lsn: "0/11") != nil)
        // A transaction may write a column twice, and lose both.
        #expect(try await scene.record(position: 1) != nil)
        #expect(try await scene.record(column: nil) != nil)
        #expect(try await scene.record(column: nil) == nil)
        // Longer than an entry of an index may be.
        let long = #"{"bookingId": ""# + (0..<4_000).map { String($0 &* 2_654_435_761, radix: 36) }.joined() + #""}"#
        #expect(try await scene.record(key: long) != nil)
        #expect(try await scene.record(key: long) == nil)
        #expect(try await scene.record(key: long.replacing("bookingId", with: "bookingid")) != nil)
    }

    @Test func listingIsFilteredAndCountsAreNot() async throws {
        let scene = try await ConflictScene()
        for number in 1...5 { try await scene.record(lsn: "0/1\(number)") }
        try await scene.record(column: "nights", policy: "max", state: "settled", lsn: "0/20")
        try await scene.record(column: nil, kind: "update_delete", policy: "delete", state: "settled", lsn: "0/21")
        try await scene.record(lsn: "0/22", table: "Leads")
        let reservas = QualifiedName(schema: "public", name: "Reservas")
        var filter = ConflictFilter(table: reservas, limit: 2)
        // The newest, in the order they came.
        #expect(try await scene.store.list(filter).map(\.lost.lsn) == ["0/14", "0/15"])
        filter.states = []
        filter.limit = 100
        #expect(try await scene.store.list(filter).count == 7)
        filter.column = "nights"
        #expect(try await scene.store.list(filter).map(\.policy) == ["max"])
        let counts = try await scene.store.counts(ConflictFilter(table: reservas, states: []))
        #expect(counts.map { "\($0.column ?? "-") \($0.policy) \($0.state) \($0.count)" } == [
            "- delete settled 1", "nights max settled 1", "phone queue open 5",
        ])
        let queue = try await scene.store.queue()
        #expect(queue.openCount == 6)
        let age = try #require(queue.oldestAgeSeconds)
        #expect(age >= 0 && age < 600)
    }

    @Test func theNewestAreListedByNumber() async throws {
        let scene = try await ConflictScene()
        for position in 0..<11 { try await scene.record(lsn: "0/F\(position)") }
        let ids = try await ConflictStore(connection: scene.connection).list(ConflictFilter(limit: 3)).map(\.id)
        #expect(ids == [9, 10, 11])
    }

    @Test func openOnesAreFoundByTheirOwnIndex() async throws {
        let scene = try await ConflictScene()
        try await scene.record()
        _ = try await scene.connection.execute("SET enable_seqscan = off")
        let plan = try await scene.connection.query(
            "EXPLAIN SELECT count(*), min(recorded_at) FROM lindero.conflict WHERE state = 'open'")
        #expect(plan.rows.compactMap { $0[0] }.joined().contains("conflict_open"))
    }

    @Test func downIsRefusedWhileConflictsAreOpen() async throws {
        let scene = try await ConflictScene()
        let id = try #require(try await scene.record())
        let error = await #expect(throws: PostgresError.self) { try await Migrator(connection: scene.connection).migrateDown() }
        #expect(error?.description.contains("conflicts") == true)
        #expect(try await scene.state(id) == .open)
        try await scene.resolver.resolve(id, take: .side("bot"))
        #expect(try await Migrator(connection: scene.connection).migrateDown().contains(10))
    }
}
