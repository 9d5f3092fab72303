import Foundation
import PostgresClient
import TestSupport
import Testing

/// The worker is killed again and again while writers write and a checker reads the target.
///
/// Each writer numbers its transactions without gaps, keeps a counter and moves money between accounts; so any state
/// of the target that is not a prefix of the source's commits, or has a change missing or doubled, shows in one query.
@Suite struct ExactlyOnceTests {
    static let writers = 4
    static let kills = ProcessInfo.processInfo.environment["LINDERO_TEST_KILLS"].flatMap { Int($0) } ?? 200

    static let schema = """
        CREATE TABLE ledger (w int, n int, note text, PRIMARY KEY (w, n));
        CREATE TABLE counter (w int PRIMARY KEY, last int NOT NULL, changes int NOT NULL);
        CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
        """
    static let rows = """
        INSERT INTO counter SELECT w, 0, 0 FROM generate_series(1, \(writers)) w;
        INSERT INTO account SELECT i, 1000 FROM generate_series(1, 200) i;
        """
    static let check = """
        SELECT (SELECT bool_and(c.last = coalesce(l.top, 0) AND c.last = coalesce(l.many, 0) AND c.changes = c.last)
                FROM counter c LEFT JOIN (SELECT w, max(n) AS top, count(*) AS many FROM ledger GROUP BY w) l USING (w))
           AND (SELECT sum(balance) = 200000 FROM account)
        """

    @Test func killedAtTwoHundredMomentsNothingIsLostDoubledOrHalved() async throws {
        let pair = try await AdoptedPair()
        for connection in [pair.source, pair.target] { _ = try await connection.execute(Self.schema) }
        _ = try await pair.source.execute(Self.rows)
        let seed = UInt64.random(in: 0...UInt64.max)
        var moments = SeededMoments(seed: seed)
        let writing = (1...Self.writers).map { writer in Task { try await write(writer, pair) } }
        let checking = Task { try await keepChecking(pair) }
        // One that is killed so soon may never get to its first group on a busy machine.
        let first = try pair.start()
        try await waitUntil("the target has something") { try await pair.target.execute("SELECT 1 FROM ledger LIMIT 1").rowCount == 1 }
        first.kill9()
        _ = try await first.wait()
        for _ in 0..<Self.kills {
            let worker = try pair.start()
            try await Task.sleep(for: .milliseconds(moments.next()))
            worker.kill9()
            #expect(try await worker.wait() == 128 + SIGKILL, "seed \(seed)")
        }
        for task in writing { task.cancel() }
        for task in writing { _ = try await task.value }
        let worker = try pair.start()
        try await waitUntil("both sides are equal (seed \(seed))", timeoutSeconds: 120) {
            let sql = "SELECT (SELECT sum(last) FROM counter), (SELECT sum(hashtext(a::text)) FROM account a), (SELECT sum(hashtext(l::text)::bigint) FROM ledger l)"
            return try await sums(sql, pair.source) == sums(sql, pair.target)
        }
        checking.cancel()
        let checks = try await checking.value
        #expect(checks > Self.kills / 4, "the checker must have looked often; seed \(seed)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        let written = try await sums("SELECT sum(last) > \(Self.kills) FROM counter", pair.source)
        #expect(written == ["t"])
    }

    /// The one row of a query.
    private func sums(_ sql: String, _ connection: PostgresConnection) async throws -> [String] {
        let result = try await connection.execute(sql)
        return result.columns.indices.map { column -> String in result[row: 0, column: column] ?? "NULL" }
    }

    private func write(_ writer: Int, _ pair: AdoptedPair) async throws {
        let connection = try await pair.connect(pair.sourceURL)
        var number = 0
        while !Task.isCancelled {
            number += 1
            let (from, to) = (Int.random(in: 1...100), Int.random(in: 101...200))
            // Counts in one statement each, in one transaction; the last part gives the stream larger ones now and then.
            let bulk = number % 50 == 0 ? "UPDATE account SET balance = balance WHERE id <= 200;" : ""
            do {
                _ = try await connection.execute(
                    """
                    BEGIN; UPDATE account SET balance = balance - 5 WHERE id = \(from); \(bulk)
                    INSERT INTO ledger VALUES (\(writer), \(number), repeat('x', \(number % 300)));
                    UPDATE counter SET last = \(number), changes = changes + 1 WHERE w = \(writer);
                    UPDATE account SET balance = balance + 5 WHERE id = \(to); COMMIT
                    """)
            } catch {
                if Task.isCancelled { break }
                guard error.isTransient else { throw error }
                // A deadlock of the writers themselves: this number comes again.
                _ = try await connection.execute("ROLLBACK")
                number -= 1
            }
            try? await Task.sleep(for: .milliseconds(4))
        }
        await connection.close()
    }

    private func keepChecking(_ pair: AdoptedPair) async throws -> Int {
        let connection = try await pair.connect(pair.targetURL)
        var checks = 0
        while !Task.isCancelled {
            do {
                let result = try await connection.query(Self.check)
                // Before the first group nothing is there yet, and the sums of nothing are NULL.
                let answer: String = result[row: 0, column: 0] ?? "empty"
                #expect(answer != "f")
                if answer == "f" { return checks }
                if answer == "t" { checks += 1 }
            } catch {
                if Task.isCancelled { break }
                throw error
            }
            try? await Task.sleep(for: .milliseconds(15))
        }
        await connection.close()
        return checks
    }
}

/// Waits in milliseconds, the same for the same seed: many very short, some long enough to catch up.
struct SeededMoments {
    private var state: UInt64

    init(seed: UInt64) { state = seed | 1 }

    mutating func next() -> Int {
        // Xorshift.
        state ^= state << UInt64(13)
        state ^= state >> UInt64(7)
        state ^= state << UInt64(17)
        let spread: UInt64 = state % UInt64(450)
        return Int(spread) + 20
    }
}
