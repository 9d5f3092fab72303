import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// A change waits in quarantine, the rules or its table change meanwhile, and a person retries it.
@Suite struct QuarantineRetryTests {
    private static let before = "INSERT INTO t VALUES (1, 'ok', 1)"
    private static let states = "SELECT state FROM lindero.quarantine"

    private static func policy(
        _ tables: [String] = ["t"], columns: [String] = ["id", "v", "par"], private staying: Set<String> = []
    ) -> OwnershipPolicy {
        OwnershipPolicy(
            tables: FreshPair.policy(tables, columns: columns).tables.mapValues { rule in
                var rule = rule
                rule.onError = .quarantine
                rule.privateColumns = staying
                return rule
            })
    }

    /// Row 1 is there, and the change that `sql` makes is in quarantine; the target would take it now.
    private func refused(
        _ sql: String = "INSERT INTO t VALUES (2, 'bad', 1234)", v: String = "text", par: String = "bigint", types: String = ""
    ) async throws -> (ReplicaPair, Int64) {
        let pair = try await ReplicaPair("\(types) CREATE TABLE t (id int PRIMARY KEY, v \(v), par \(par))", policy: Self.policy())
        _ = try await refused([Self.before, sql], by: pair)
        return (pair, try await id(pair))
    }

    /// Streams changes past a target that takes nothing bad, and does again afterwards; the numbers of what waits.
    private func refused(_ changes: [String], by pair: ReplicaPair) async throws -> [Int64] {
        _ = try await pair.target.execute("ALTER TABLE t ADD CONSTRAINT nobody_bad CHECK (v <> 'bad')")
        try await pair.streaming { state in
            for sql in changes { try await pair.apply(sql, state) }
        }
        _ = try await pair.target.execute("ALTER TABLE t DROP CONSTRAINT nobody_bad")
        return try await QuarantineStore(connection: pair.target).list(onlyOpen: true).map(\.id)
    }

    private func pair(_ missingRow: ReplicationSettings.MissingRow = .stop) async throws -> ReplicaPair {
        var replication = ReplicationSettings()
        replication.missingRow = missingRow
        return try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v text, par int)", policy: Self.policy(), replication: replication)
    }

    /// `=` without a schema is none of an extension's.
    @Test(
        .enabled("ltree comes with PostgreSQL's contrib, which this server was built without") {
            try await PostgresCluster.shared("source").execute("SELECT 1 FROM pg_available_extensions WHERE name = 'ltree'").rowCount == 1
        })
    func aRowIsFoundByAKeyOfAnExtensionsType() async throws {
        let pair = try await ReplicaPair(
            "CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE TABLE t (id ext.ltree PRIMARY KEY, v text)",
            policy: Self.policy(columns: ["id", "v"]))
        _ = try await pair.target.execute("ALTER TABLE t ADD CONSTRAINT nobody_bad CHECK (v <> 'bad')")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES ('a.b', 'ok'), ('a.c', 'ok')", state)
            try await pair.apply("UPDATE t SET v = 'bad' WHERE id::text = 'a.b'", state)
        }
        _ = try await pair.target.execute("ALTER TABLE t DROP CONSTRAINT nobody_bad")
        try await retry(id(pair), pair, policy: Self.policy(columns: ["id", "v"]))
        #expect(try await pair.rows("SELECT v FROM t ORDER BY id::text", on: pair.target) == [["bad"], ["ok"]])
        #expect(try await pair.rows(Self.states, on: pair.target) == [["applied"]])
    }

    private func id(_ pair: ReplicaPair) async throws -> Int64 {
        try #require(try await pair.rows("SELECT id FROM lindero.quarantine", on: pair.target).first?[0].flatMap { Int64($0) })
    }

    private func retry(_ id: Int64, _ pair: ReplicaPair, policy: OwnershipPolicy = policy(), force: Bool = false) async throws {
        var settings = pair.settings
        settings.policy = policy
        let now = settings
        try await PostgresConnection.with(QuarantineStore.options(settings.target)) {
            try await QuarantineStore(connection: $0).retry(id, settings: now, force: force)
        }
    }

    private func expectSuperseded(_ id: Int64, _ pair: ReplicaPair) async throws {
        await #expect {
            try await retry(id, pair)
        } throws: { error in
            if case QuarantineError.superseded(id, _) = error { true } else { false }
        }
    }

    private func expectWithheld(_ id: Int64, _ pair: ReplicaPair, policy: OwnershipPolicy) async throws {
        await #expect {
            try await retry(id, pair, policy: policy)
        } throws: { error in
            if case QuarantineError.withheld(id, _) = error { true } else { false }
        }
        #expect(try await pair.rows(Self.states, on: pair.target) == [["open"]])
    }

    private func expectOutdated(_ id: Int64, _ pair: ReplicaPair, policy: OwnershipPolicy = policy()) async throws {
        await #expect {
            try await retry(id, pair, policy: policy)
        } throws: { error in
            if case QuarantineError.outdated(id, _) = error { true } else { false }
        }
        #expect(try await pair.rows(Self.states, on: pair.target) == [["open"]])
    }

    private func alter(_ pair: ReplicaPair, _ actions: String) async throws {
        for side in [pair.source, pair.target] { _ = try await side.execute("ALTER TABLE t \(actions)") }
    }

    /// Kept as the bytes of an int and a bigint; of a bigint the first are too few, of a numeric the second are zero.
    @Test func aRetriedValueIsTheSourcesAfterItsColumnChangedItsType() async throws {
        let (pair, id) = try await refused()
        try await alter(pair, "ALTER id TYPE bigint, ALTER par TYPE numeric")
        try await retry(id, pair)
        try await pair.expectSame("SELECT id, v, par::bigint FROM t ORDER BY id", atLeast: 2)
        #expect(try await pair.rows(Self.states, on: pair.target) == [["applied"]])
    }

    /// In the order in which they were refused, which is the one to retry them in.
    @Test func theyAreListedByNumber() async throws {
        let (pair, first) = try await refused("INSERT INTO t SELECT i, 'bad', i FROM generate_series(2, 12) i")
        let ids = try await QuarantineStore(connection: pair.target).list(onlyOpen: true).map(\.id)
        #expect(ids == Array(first..<first + 11))
    }

    /// PostgreSQL wrote the row anew for its key's type: as far as is known, it is newer than the change.
    @Test func aRetriedUpdateFindsItsRowAfterTheKeyChangedItsType() async throws {
        let (pair, id) = try await refused("UPDATE t SET v = 'bad', par = 1234 WHERE id = 1")
        try await alter(pair, "ALTER id TYPE bigint, ALTER par TYPE numeric")
        try await expectSuperseded(id, pair)
        try await retry(id, pair, force: true)
        try await pair.expectSame("SELECT id, v, par::bigint FROM t ORDER BY id")
    }

    /// A domain has the bytes of what is under it, an enum those of its label.
    @Test func aRetriedValueOfAUsersTypeIsTheSourcesAfterItsColumnChangedItsType() async throws {
        let types = "CREATE DOMAIN counted AS bigint; CREATE TYPE word AS ENUM ('ok', 'bad');"
        let (pair, id) = try await refused(v: "word", par: "counted", types: types)
        try await alter(pair, "ALTER v TYPE text, ALTER par TYPE numeric")
        try await retry(id, pair)
        try await pair.expectSame("SELECT id, v, par::bigint FROM t ORDER BY id", atLeast: 2)
    }

    @Test func aRetriedEnumIsTheSources() async throws {
        let (pair, id) = try await refused(v: "word", types: "CREATE TYPE word AS ENUM ('ok', 'bad');")
        try await retry(id, pair)
        try await pair.expectSame("SELECT id, v, par FROM t ORDER BY id", atLeast: 2)
    }

    @Test func aRetriedValueOfATypeThatIsGoneIsRefused() async throws {
        let (pair, id) = try await refused(par: "counted", types: "CREATE DOMAIN counted AS bigint;")
        for side in [pair.source, pair.target] {
            _ = try await side.execute("ALTER TABLE t ALTER par TYPE numeric; DROP DOMAIN counted")
        }
        try await expectOutdated(id, pair)
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["1"]])
    }

    /// The rules know the new name, the kept change the old one: nothing of it may be left out in silence.
    @Test func aRetryOfAColumnThatHasAnotherNameNowIsRefused() async throws {
        let (pair, id) = try await refused()
        try await alter(pair, "RENAME v TO w")
        try await expectOutdated(id, pair, policy: Self.policy(columns: ["id", "w", "par"]))
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["1"]])
    }

    /// Nothing of the table travels any more: no row may be guessed.
    @Test func aRetryOfATableThatLeftTheRulesTouchesNoRow() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL", policy: Self.policy(columns: ["id", "v"]))
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 5) i", state)
            _ = try await pair.target.execute("DELETE FROM t WHERE id = 5")
            try await pair.apply("DELETE FROM t WHERE id = 5", state)
        }
        try await expectWithheld(try await id(pair), pair, policy: Self.policy([]))
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["4"]])
    }

    /// What it would write is private now: it came to nothing, and was called applied.
    @Test func aRetryThatWouldWriteNothingIsRefused() async throws {
        let (pair, id) = try await refused("UPDATE t SET v = 'bad' WHERE id = 1")
        try await expectWithheld(id, pair, policy: Self.policy(private: ["v", "par"]))
        #expect(try await pair.rows("SELECT v FROM t", on: pair.target) == [["ok"]])
        try await retry(id, pair)
        #expect(try await pair.rows("SELECT v FROM t", on: pair.target) == [["bad"]])
    }

    /// A retried insert would bring back what the source has not.
    @Test func aRetryOfARowWhoseTableWasEmptiedSinceIsRefused() async throws {
        let (pair, id) = try await refused()
        try await pair.streaming { state in try await pair.apply("TRUNCATE t; INSERT INTO t VALUES (3, 'new', 3)", state) }
        try await expectSuperseded(id, pair)
        try await pair.expectSame("SELECT id, v, par FROM t")
    }

    /// Also by rules that do not quarantine any more.
    @Test func aRetryOfARowWhoseTableWasEmptiedAfterTheRulesChangedIsRefused() async throws {
        let (pair, id) = try await refused()
        var stopping = pair.settings
        stopping.policy = FreshPair.policy(["t"], columns: ["id", "v", "par"])
        let state = DirectionState()
        let running = pair.start(state, settings: stopping)
        try await pair.apply("TRUNCATE t; INSERT INTO t VALUES (3, 'new', 3)", state)
        state.drain()
        try await running.value
        try await expectSuperseded(id, pair)
        try await pair.expectSame("SELECT id, v, par FROM t")
    }

    /// The copy has it, or what came of it since.
    @Test func aRetryOfARowWhoseTableWasCopiedSinceIsRefused() async throws {
        let (pair, id) = try await refused()
        _ = try await pair.target.execute(
            """
            INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes)
            SELECT direction, schema_name, table_name, commit_lsn + 1, 1, 1 FROM lindero.quarantine
            """)
        try await expectSuperseded(id, pair)
    }

    /// Nothing of the table waits: counted, as the file says.
    @Test func aMissingRowIsCountedWhileNothingOfItsTableWaits() async throws {
        let pair = try await pair(.count)
        try await pair.streaming { state in
            try await pair.apply(Self.before, state)
            _ = try await pair.target.execute("DELETE FROM t")
            try await pair.apply("DELETE FROM t", state)
            #expect(state.snapshot().counters.missingRows == 1)
        }
        #expect(try await pair.rows(Self.states, on: pair.target).isEmpty)
    }

    /// In the transaction that inserted it; what is refused after that has not been emptied.
    @Test func whatIsRefusedAfterATruncateIsRetried() async throws {
        let pair = try await pair()
        let ids = try await refused(["BEGIN; INSERT INTO t VALUES (1, 'bad', 1); TRUNCATE t; INSERT INTO t VALUES (2, 'bad', 2); COMMIT"], by: pair)
        try #require(ids.count == 2)
        try await expectSuperseded(ids[0], pair)
        try await retry(ids[1], pair)
        try await pair.expectSame("SELECT id, v, par FROM t")
    }

    /// Counted, a delete of a row that waits in quarantine would be forgotten, and the retried row stay for ever.
    @Test func aMissingRowIsSetAsideWhereItsTableQuarantinesAlthoughOthersAreCounted() async throws {
        let pair = try await pair(.count)
        let ids = try await refused(
            ["INSERT INTO t VALUES (1, 'bad', 1), (2, 'bad', 2)", "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new' WHERE id = 2"], by: pair)
        try #require(ids.count == 4)
        for id in ids { try await retry(id, pair) }
        try await pair.expectSame("SELECT id, v, par FROM t")
    }
}
