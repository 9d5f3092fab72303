import Foundation
import Logging
import PostgresClient
import ReplicationCore
import Replicator
import Synchronization
import TestSupport

@testable import lindero

/// Two services that write while they move between two databases, and what each of their acknowledged writes was.
struct MovingServices {
    static let schema = """
        CREATE TABLE public."Reservas" (
          id serial PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, status int DEFAULT 0, token int DEFAULT 0,
          "crmNotes" int DEFAULT 0, seen int DEFAULT 0, phone text, visits int NOT NULL DEFAULT 0);
        CREATE TABLE public."Leads" (id serial PRIMARY KEY, name text, score int DEFAULT 0);
        CREATE TABLE public."HotelApart" (id serial PRIMARY KEY, name text, rooms int DEFAULT 0);
        """
    static let tables = """
          Reservas:
            match: [bookingId]
            insert: sync
            delete: sync
            private: [crmNotes, token]
            columns:
              bot: [crmNotes, seen]
              sync: [id, bookingId, status, token]
              shared: { phone: { policy: last_write }, visits: { policy: delta } }
          Leads: { match: [id], insert: bot, delete: bot, columns: { bot: "*" } }
          HotelApart: { match: [id], insert: sync, delete: sync, columns: { sync: "*" } }

        """
    static let keyCount = 12
    /// What both sides hold alike; the origin's private column is its own.
    static let all = """
        SELECT coalesce((SELECT string_agg(concat_ws(' ', id, "bookingId", status, token, seen, phone, visits), E'\\n' ORDER BY "bookingId")
                         FROM public."Reservas"), '')
          || E'\\n--\\n' || coalesce((SELECT string_agg(l::text, E'\\n' ORDER BY id) FROM public."Leads" l), '')
          || E'\\n--\\n' || coalesce((SELECT string_agg(h::text, E'\\n' ORDER BY id) FROM public."HotelApart" h), '')
        """

    let pair: SplitPair

    init(_ pair: SplitPair) { self.pair = pair }

    init(schema: String, tables: String) async throws {
        pair = try await SplitPair(schema: schema, tables: tables, backend: "replica")
    }

    init() async throws {
        self = try await MovingServices(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute(
            """
            INSERT INTO public."Reservas" ("bookingId", phone) SELECT 'b-' || i, 'first' FROM generate_series(1, \(Self.keyCount)) i;
            INSERT INTO public."Leads" (name) SELECT 'lead ' || i FROM generate_series(1, 20) i;
            INSERT INTO public."HotelApart" (name) SELECT 'hotel ' || i FROM generate_series(1, 20) i;
            """)
    }

    /// Both directions, as lindero.yaml declares them.
    func settings() async throws -> SplitSettings {
        let global = try GlobalOptions.parse(["--config", pair.folder + "/lindero.yaml"])
        let loaded = try LoadedConfiguration.load(global, environment: pair.environment).running(.split)
        guard case .split(let settings)? = try await WorkerPlan.make(loaded).tasks.first else { throw Missing() }
        return settings
    }

    struct Missing: Error {}

    /// Has the worker run something else, and waits until it does.
    func follow(_ mode: WorkerMode, _ worker: RunningLindero, streams: [String] = ["bot->sync", "sync->bot"]) async throws {
        let told = worker.errors.count
        _ = try await pair.bot.query(
            """
            INSERT INTO lindero.phase (move, number, from_phase, to_phase, step, work, worker, operator)
            SELECT 1, coalesce(max(number), 0) + 1, 'replica', 'split', 'prepared', 'worker', $1, 'test' FROM lindero.phase
            """, [.text(mode.rawValue)])
        try await waitUntil("the worker follows to \(mode.rawValue); it said \(worker.errors.suffix(3_000))", timeoutSeconds: 60) {
            guard worker.child.exitCode == nil else { throw Missing() }
            let new = worker.errors.dropFirst(told)
            return new.contains("to=\(mode.rawValue)") && streams.allSatisfy { new.contains("streaming direction=\($0)") }
        }
    }

    /// Starts the worker as a replica, and has the split begin with a transition.
    func begin() async throws -> (RunningLindero, SplitTransition) {
        let worker = try pair.run()
        try await worker.waitForErrors("streaming direction=bot->sync", timeoutSeconds: 60)
        let transition = SplitTransition(settings: try await settings(), logger: Self.logger)
        _ = try await transition.widen()
        try await follow(.towardsSplit, worker)
        return (worker, transition)
    }

    func restoreIdentity(for ownership: OwnershipPolicy?) async throws -> Int {
        let sides = [("bot", "DATABASE_URL"), ("sync", "SYNC_DATABASE_URL")].map {
            (name: $0.0, options: ConnectionOptions(pair.environment[$0.1] ?? ""))
        }
        return try await SplitTransition.restoreIdentity(on: sides, for: ownership)
    }

    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Identities that are not the default, by side.
    func identities() async throws -> [String?] {
        try await pair.values(
            """
            SELECT coalesce(string_agg(relname || ' ' || relreplident::text, ', ' ORDER BY relname), '') FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relreplident <> 'd'
            """)
    }
}

/// One service: writes its own columns, one change after the other, each where the service is at that moment.
final class MovingService: Sendable {
    struct Place: Hashable { var key, column: String }

    private struct Known {
        var sides: [Int] = [0]
        var last: [Place: Int] = [:]
        var doubtful: [Place: Int] = [:]
        var inserted: Set<String> = []
        var visits = 0
        var doubtfulVisits = 0
        var writes = 0
        var isOver = false
        var isIdle = false
    }

    let name: String
    let columns: [String]
    let inserts: Bool
    private let urls: [String]
    private let seed: UInt64
    private let known = Mutex(Known())

    init(_ name: String, columns: [String], inserts: Bool, _ pair: SplitPair, seed: UInt64) {
        self.name = name
        self.columns = columns
        self.inserts = inserts
        self.seed = seed
        urls = ["DATABASE_URL", "SYNC_DATABASE_URL"].compactMap { pair.environment[$0] }
    }

    /// The databases it writes to from now on: 0 is bot, 1 is sync. Returns once nothing is under way elsewhere.
    func move(to sides: [Int]) async throws {
        known.withLock { $0.sides = sides }
        let before = known.withLock { $0.writes }
        try await waitUntil("\(name) goes on at \(sides)") { known.withLock { $0.writes >= before + 2 || $0.isOver } }
    }

    /// Returns once nothing is under way.
    func pause() async throws {
        known.withLock {
            $0.sides = []
            $0.isIdle = false
        }
        try await waitUntil("\(name) pauses") { known.withLock { $0.isIdle || $0.isOver } }
    }

    func end() { known.withLock { $0.isOver = true } }
    var writes: Int { known.withLock { $0.writes } }
    /// The last acknowledged value of each place, and one that nobody knows of.
    var last: [Place: Int] { known.withLock { $0.last } }
    var inserted: Set<String> { known.withLock { $0.inserted } }
    var visits: Int { known.withLock { $0.visits } }

    func run() async throws {
        var random = SeededGenerator(seed: seed)
        var connections: [PostgresConnection] = []
        for url in urls { connections.append(try await PostgresConnection.connect(ConnectionOptions(url))) }
        var number = 0
        while !known.withLock({ $0.isOver }) {
            let sides = known.withLock { $0.sides }
            if sides.isEmpty {
                known.withLock { $0.isIdle = true }
                try await Task.sleep(for: .milliseconds(5))
                continue
            }
            let side = connections[sides[random.below(sides.count)]]
            number += 1
            try await write(number, on: side, &random)
            try await Task.sleep(for: .milliseconds(random.below(6)))
        }
        for connection in connections { await connection.close() }
    }

    private func write(_ number: Int, on side: PostgresConnection, _ random: inout SeededGenerator) async throws {
        if inserts, number % 15 == 0 {
            let key = "\(name)-\(number)"
            _ = try await side.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", phone) VALUES ('\(key)', '\(name)')")
            known.withLock { _ = $0.inserted.insert(key) }
        } else if inserts, number % 13 == 0, let key = inserted.sorted().randomElement(using: &random) {
            // Where it has not arrived yet, there is nothing to change.
            let isRenamed = random.chance(60)
            let change = isRenamed ? "UPDATE public.\"Reservas\" SET \"bookingId\" = '\(name)-r\(number)'" : "DELETE FROM public.\"Reservas\""
            let found = try await side.execute("\(change) WHERE \"bookingId\" = '\(key)' RETURNING 1")
            if found.rowCount == 1 {
                known.withLock {
                    $0.inserted.remove(key)
                    if isRenamed { $0.inserted.insert("\(name)-r\(number)") }
                }
            }
        } else if number % 11 == 0 {
            _ = try await side.execute("UPDATE public.\"Reservas\" SET visits = visits + 1 WHERE \"bookingId\" = 'b-1'")
            known.withLock { $0.visits += 1 }
        } else if number % 7 == 0 {
            let table = name == "bot" ? "Leads" : "HotelApart"
            _ = try await side.execute("INSERT INTO public.\"\(table)\" (name) VALUES ('\(name)-\(number)')")
        } else {
            let place = Place(
                key: "b-\(1 + random.below(MovingServices.keyCount))", column: columns[random.below(columns.count)])
            let found = try await side.execute(
                "UPDATE public.\"Reservas\" SET \"\(place.column)\" = \(number) WHERE \"bookingId\" = '\(place.key)' RETURNING 1")
            if found.rowCount == 1 { known.withLock { $0.last[place] = number } }
        }
        known.withLock { $0.writes += 1 }
    }
}
