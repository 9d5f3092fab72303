import Foundation
import Logging
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport

@testable import Replicator

/// Two databases with the same tables, two services with roles of their own, and perhaps a pgbouncer for one of them.
final class MoveScene: Sendable {
    let bot: PostgresConnection
    let sync: PostgresConnection
    let botOptions: ConnectionOptions
    let syncOptions: ConnectionOptions
    /// Roles are the cluster's, so each scene has its own.
    let syncRole: String
    let botRole: String
    let bouncer: BouncerProcess?
    let entriesBefore: String
    let events = Mutex<[ServiceMoveEvent]>([])
    let log = LogLines()

    static let schema = """
        CREATE TABLE public."Reservas" (id int, writer text, PRIMARY KEY (id, writer));
        CREATE TABLE public.leads (id int PRIMARY KEY, v int);
        CREATE TABLE public.nights (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE public.nights_early PARTITION OF public.nights FOR VALUES FROM (0) TO (100);
        """
    static let tables = ["Reservas", "leads", "nights"].map { QualifiedName(schema: "public", name: $0) }

    init(poolMode: String? = nil) async throws {
        let source = try await PostgresCluster.shared("source")
        let target = try await PostgresCluster.shared("target")
        botOptions = ConnectionOptions(try await source.createDatabase(prefix: "movb"))
        syncOptions = ConnectionOptions(try await target.createDatabase(prefix: "movs"))
        bot = try await PostgresConnection.connect(botOptions)
        sync = try await PostgresConnection.connect(syncOptions)
        let suffix = String(UInt64.random(in: 0...UInt64.max), radix: 36)
        syncRole = "sync_" + suffix
        botRole = "bot_" + suffix
        for (cluster, side) in [(source, bot), (target, sync)] {
            _ = try await Migrator(connection: side).migrate()
            _ = try await side.execute(Self.schema)
            for role in [syncRole, botRole] {
                try await cluster.execute("CREATE ROLE \(role) LOGIN")
                _ = try await side.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \(role)")
            }
        }
        guard let poolMode, let peer = await bot.peer else {
            (bouncer, entriesBefore) = (nil, "")
            return
        }
        entriesBefore = """
            ; kept as it is
            [databases]
            other = host=127.0.0.1 dbname=other
            hotel_sync =  host=\(peer.host)   port=\(peer.port) dbname=\(peer.database)  pool_size=8

            """
        bouncer = try await BouncerProcess.start(entries: entriesBefore, poolMode: poolMode)
        try await bouncer?.allow(syncRole)
    }

    /// The move of service `sync`, forward or back.
    ///
    /// - Parameter drain: what happens while writers are held; nothing does when it only catches up.
    func move(
        back: Bool = false, fence: CutoverSettings.Fence = .none, seconds: Double = patient(.seconds(20)) / .seconds(1), throughBouncer: Bool = true,
        drain: @escaping @Sendable (String) async throws -> Void = { _ in }
    ) throws -> ServiceMove {
        let sides = [ServiceMove.Side(name: "bot", options: botOptions), ServiceMove.Side(name: "sync", options: syncOptions)]
        var logger = Logger(label: "test") { [log] _ in log }
        logger.logLevel = .info
        var move = ServiceMove(
            service: "sync", roles: [syncRole], from: sides[back ? 1 : 0], to: sides[back ? 0 : 1], tables: Self.tables,
            logger: logger
        ) { [self] side in
            if events.withLock({ $0.contains(.begun(.drain)) }) { try await drain(side) }
        }
        move.fence = fence
        move.deadlineMilliseconds = Int(seconds * 1_000)
        move.pauseWatch = PauseWatch.Program(path: try LinderoProcess.program(), arguments: ["pause-watch"])
        if let bouncer, throughBouncer {
            move.bouncer = ServiceMove.Bouncer(console: bouncer.console, file: bouncer.entriesPath, entry: "hotel_sync")
        }
        return move
    }

    @discardableResult
    func run(_ move: ServiceMove) async throws(ServiceMoveError) -> ServiceMoveFigures {
        events.withLock { $0 = [] }
        return try await move.run { [self] event in events.withLock { $0.append(event) } }
    }

    /// Why a move fails; `nil` when it does not.
    func failure(_ move: ServiceMove) async -> ServiceMoveError? {
        do throws(ServiceMoveError) {
            try await run(move)
            return nil
        } catch {
            return error
        }
    }

    /// A client of the service, through pgbouncer when there is one.
    func client(_ role: String? = nil, direct: Bool = false, on options: ConnectionOptions? = nil) async throws -> PostgresConnection {
        var settings: ConnectionOptions
        if let bouncer, !direct {
            settings = ConnectionOptions(bouncer.conninfo(entry: "hotel_sync", user: role ?? syncRole))
        } else {
            guard let peer = await (options.map { _ in sync } ?? bot).peer else { throw PostgresError.closed("") }
            settings = ConnectionOptions("postgresql://\(role ?? syncRole)@\(peer.host):\(peer.port)/\(peer.database)")
        }
        settings.usesPinnedSettings = false
        settings.applicationName = "a service"
        return try await PostgresConnection.connect(settings)
    }

    /// What becomes of a client's statements: `written`, or the SQLSTATE that refused them.
    func attempt(_ sql: String, _ role: String? = nil, on options: ConnectionOptions? = nil) async throws -> String {
        let connection = try await client(role, on: options)
        defer { Task { await connection.close() } }
        do {
            _ = try await connection.execute(sql)
            return "written"
        } catch {
            return error.sqlState?.rawValue ?? "lost"
        }
    }

    /// How many rows each side has that a writer made.
    func counts(_ writer: String) async throws -> (bot: Int, sync: Int) {
        let query = "SELECT count(*) FROM public.\"Reservas\" WHERE writer = '\(writer)'"
        return (Int(try await bot.execute(query).firstValue ?? "") ?? -1, Int(try await sync.execute(query).firstValue ?? "") ?? -1)
    }

    func entries() throws -> String { try String(contentsOfFile: bouncer?.entriesPath ?? "", encoding: .utf8) }

    var isPaused: Bool {
        get async throws { try await bouncer?.database("hotel_sync")?["paused"] != "0" }
    }

    func close() async {
        for side in [bot, sync] { await side.close() }
    }
}

/// Inserts one row after the other, and knows which were acknowledged.
final class LiveWriter: Sendable {
    let name: String
    private let task: Task<Void, Never>
    private let state: Box

    private final class Box: Sendable {
        let value = Mutex((acknowledged: 0, failures: [String](), isStopped: false))
    }

    init(_ name: String, _ connection: PostgresConnection) {
        self.name = name
        let state = Box()
        self.state = state
        task = Task {
            while !state.value.withLock({ $0.isStopped }) {
                let id = state.value.withLock { $0.acknowledged } + 1
                do {
                    _ = try await connection.execute("INSERT INTO public.\"Reservas\" VALUES (\(id), '\(name)')")
                    state.value.withLock { $0.acknowledged = id }
                } catch {
                    state.value.withLock { $0.failures.append("\(error)") }
                    break
                }
            }
            await connection.close()
        }
    }

    struct Failed: Error { let failures: [String] }

    var acknowledged: Int { state.value.withLock { $0.acknowledged } }
    var failures: [String] { state.value.withLock { $0.failures } }

    /// Waits until it has written that many more.
    func advance(_ count: Int = 5) async throws {
        let goal = acknowledged + count
        try await waitUntil("\(name) has written \(count) more; \(failures)") {
            if !failures.isEmpty { throw Failed(failures: failures) }
            return acknowledged >= goal
        }
    }

    func stop() async {
        state.value.withLock { $0.isStopped = true }
        await task.value
    }
}

/// What a logger was told.
final class LogLines: LogHandler, Sendable {
    let lines = Mutex<[String]>([])
    var metadata: Logger.Metadata {
        get { [:] }
        set { _ = newValue }
    }
    var logLevel: Logger.Level {
        get { .info }
        set { _ = newValue }
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set { _ = newValue }
    }

    func log(event: LogEvent) { lines.withLock { $0.append("\(event.message)") } }
}
