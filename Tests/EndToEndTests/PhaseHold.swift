import Foundation
import PostgresClient
import Synchronization
import TestSupport

/// Has the one who leads a move wait whenever the record is about to change, so that a test can end it at a known place: a
/// trigger of the test's own on `lindero.phase` wants a lock that the test holds, one for each change.
struct PhaseHold {
    /// Where a leader stands.
    enum Moment: Equatable {
        /// It is about to record that a work begins, or that it ended.
        case begin(Int), end(Int)
        case exit(Int32)
    }

    private static let first = 815_000_000
    private let pair: SplitPair
    /// Holds a lock for each change of each of the next moves.
    private let holder: PostgresConnection

    init(_ pair: SplitPair) async throws {
        self.pair = pair
        _ = try await pair.bot.execute(
            """
            CREATE FUNCTION public.hold_phase() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              PERFORM pg_catalog.pg_advisory_xact_lock(
                \(Self.first) + NEW.move * 1000 + NEW.number * 2 + CASE TG_OP WHEN 'UPDATE' THEN 1 ELSE 0 END);
              RETURN NEW;
            END $$;
            """)
        holder = try await PostgresConnection.connect(ConnectionOptions(pair.environment["DATABASE_URL"] ?? ""))
        _ = try await holder.query(
            """
            SELECT pg_catalog.pg_advisory_lock(\(Self.first) + move * 1000 + change)
            FROM pg_catalog.generate_series(1, (SELECT coalesce(max(move), 0) + 2 FROM lindero.phase)) move,
                 pg_catalog.generate_series(2, 60) change
            """)
        _ = try await pair.bot.execute(
            "CREATE TRIGGER hold BEFORE INSERT OR UPDATE ON lindero.phase FOR EACH ROW EXECUTE FUNCTION public.hold_phase()")
    }

    /// Nobody waits any more.
    func end() async throws {
        _ = try await holder.query("SELECT pg_catalog.pg_advisory_unlock_all()")
        _ = try await pair.bot.execute("DROP TRIGGER hold ON lindero.phase; DROP FUNCTION public.hold_phase()")
        await holder.close()
    }

    /// Lets the change that waits become true; a leader that goes on waits before the next.
    func pass() async throws {
        guard let key = try await waiting() else { throw Astray(what: "nobody waits") }
        _ = try await holder.query("SELECT pg_catalog.pg_advisory_unlock(\(key))")
        // Behind the one who waited, so that it is done by now.
        _ = try await holder.query("SELECT pg_catalog.pg_advisory_lock(\(key))")
        _ = try await holder.query("SELECT pg_catalog.pg_advisory_unlock(\(key))")
    }

    /// Until the leader stands before a change of the record, or has ended.
    func next(_ process: RunningLindero, _ what: String) async throws -> Moment {
        var moment: Moment?
        try await waitUntil("\(what) comes to the next record; it said \(process.errors.suffix(2_000))", timeoutSeconds: 120) {
            let hasEnded = process.child.exitCode
            if let key = try await waiting() {
                let change = (key - Self.first) % 1_000
                moment = change % 2 == 0 ? .begin(change / 2) : .end(change / 2)
            } else if let hasEnded {
                moment = .exit(hasEnded)
            }
            return moment != nil
        }
        return moment ?? .exit(-1)
    }

    struct Astray: Error { var what: String }

    func expect(_ moment: Moment, _ process: RunningLindero, _ what: String) async throws {
        let found = try await next(process, what)
        guard found == moment else { throw Astray(what: "\(what): \(found) instead of \(moment): \(process.errors)") }
    }

    func isWaiting() async throws -> Bool { try await waiting() != nil }

    /// The lock that a leader waits for.
    private func waiting() async throws -> Int? {
        try await pair.bot.execute(
            """
            SELECT l.objid::bigint FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.objid >= \(Self.first) AND l.objsubid = 1 AND NOT l.granted
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
            """
        ).firstValue.flatMap { Int($0) }
    }

    /// Ends a leader as `kill -9` does, and its sessions: what it was about to record is not.
    func kill(_ process: RunningLindero) async throws {
        process.kill9()
        _ = try await process.wait()
        try await waitUntil("the leader's sessions are gone") {
            _ = try await pair.bot.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database()
                  AND (application_name LIKE 'lindero advance%' OR application_name LIKE 'lindero rollback%')
                """)
            return try await pair.bot.execute(
                """
                SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                  AND (application_name LIKE 'lindero advance%' OR application_name LIKE 'lindero rollback%')
                """).rowCount == 0
        }
    }
}

/// Counts what a leader sends to both databases from where it takes its move up, and does something at one of these messages.
final class MessageCount: Sendable {
    private struct State {
        /// What is sent once, in this order, before a work is taken up.
        var marks = ["pg_try_advisory_lock", "WITH last AS (SELECT * FROM lindero.phase"]
        var left: Int?
        var act: @Sendable () -> Void = {}
    }

    private let state = Mutex(State())
    private let relays = Mutex<[NetworkRelay]>([])

    /// The environment in which a program's messages come through here.
    func environment(_ pair: SplitPair) throws -> [String: String] {
        try pair.environment.mapValues { url in
            let port = url.split(separator: ":").last.flatMap { $0.split(separator: "/").first }.flatMap { Int($0) } ?? 0
            let relay = try NetworkRelay(to: port) { [self] in heard($0) }
            relays.withLock { $0.append(relay) }
            return url.replacingOccurrences(of: ":\(port)/", with: ":\(relay.port)/")
        }
    }

    func at(_ number: Int, _ act: @escaping @Sendable () -> Void) {
        state.withLock {
            $0.left = number
            $0.act = act
        }
    }

    func close() { for relay in relays.withLock({ $0 }) { relay.close() } }

    private func heard(_ bytes: ArraySlice<UInt8>) {
        let act: (@Sendable () -> Void)? = state.withLock { state in
            if let mark = state.marks.first {
                if String(decoding: bytes, as: UTF8.self).contains(mark) { state.marks.removeFirst() }
                return nil
            }
            guard let left = state.left else { return nil }
            state.left = left > 1 ? left - 1 : nil
            return left > 1 ? nil : state.act
        }
        act?()
    }
}
