import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct ManyTablesTests {
    @Test func threeOfTenThousandTablesAreCopiedAndFollowed() async throws {
        var tables: [QualifiedName: TableOwnership] = [:]
        for name in ["t1", "t5000", "t10000"] {
            let table = QualifiedName(schema: "public", name: name)
            tables[table] = TableOwnership(
                table: table, match: ["id"], insertOwners: ["bot"], deleteOwners: ["bot"], privateColumns: [],
                columns: ["id": .owned(by: "bot"), "v": .owned(by: "bot")])
        }
        let pair = try await FreshPair("SELECT 1", policy: OwnershipPolicy(tables: tables))
        for part in 0..<20 {
            _ = try await pair.source.execute(
                "DO $$ BEGIN FOR i IN \(part * 500 + 1)..\(part * 500 + 500) LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$")
        }
        _ = try await pair.source.execute("INSERT INTO t1 VALUES (1, 'a'); INSERT INTO t5000 VALUES (1, 'b'); INSERT INTO t7 VALUES (1, 'no')")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        _ = try await pair.source.execute("UPDATE t1 SET v = 'changed'; INSERT INTO t10000 VALUES (9, 'c'); UPDATE t7 SET v = 'no'")
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT (SELECT t::text FROM t1 t), (SELECT t::text FROM t5000 t), (SELECT t::text FROM t10000 t)")
        let made = try await pair.rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", on: pair.target)
        #expect(made == [["3"]])
        state.drain()
        try await running.value
    }
}
