import PostgresClient
import ReplicationCore

/// One run of a move: the connections it has, how far it is, and what it has measured.
actor MoveRun {
    let move: ServiceMove
    let report: @Sendable (ServiceMoveEvent) -> Void
    let source: PostgresConnection
    let target: PostgresConnection
    let console: BouncerConsole?
    let start = Monotonic.milliseconds()
    /// The declared tables that the old side has.
    private(set) var tables: [QualifiedName] = []
    private(set) var figures = ServiceMoveFigures()
    private(set) var begun: [MoveStep] = []
    var deadline: Int64
    private var seen: Set<Int> = []
    private static let quietMilliseconds: Int64 = 2_000
    private static let glanceMilliseconds = 10

    // What is held just now.
    var fence: LockFence?
    private var fencedSince: Int64?
    private var pausedSince: Int64?
    private var watch: PauseWatch?
    /// The file as it will be, written before anybody waits.
    private var prepared: BouncerFileStore.Prepared?
    /// The entry's text before we changed it; `nil` when it already said what it should.
    private(set) var entryBefore: [UInt8]?

    static func open(
        _ move: ServiceMove, report: @escaping @Sendable (ServiceMoveEvent) -> Void
    ) async throws(ServiceMoveError) -> MoveRun {
        let source = try await connect(move.from)
        let target: PostgresConnection
        var console: BouncerConsole?
        do {
            target = try await connect(move.to)
        } catch {
            await source.close()
            throw error
        }
        do {
            if let bouncer = move.bouncer { console = try await BouncerConsole.open(bouncer.console) }
        } catch {
            for connection in [source, target] { await connection.close() }
            throw ServiceMoveError.from(error, side: "pgbouncer")
        }
        return MoveRun(move, source, target, console, report)
    }

    private init(
        _ move: ServiceMove, _ source: PostgresConnection, _ target: PostgresConnection, _ console: BouncerConsole?,
        _ report: @escaping @Sendable (ServiceMoveEvent) -> Void
    ) {
        self.move = move
        self.source = source
        self.target = target
        self.console = console
        self.report = report
        deadline = start + Int64(move.deadlineMilliseconds)
    }

    private static func connect(_ side: ServiceMove.Side) async throws(ServiceMoveError) -> PostgresConnection {
        do throws(PostgresError) {
            return try await PostgresConnection.connect(side.options)
        } catch {
            throw .server(side: side.name, error)
        }
    }

    func close() async {
        await fence?.drop()
        await fence?.connection.close()
        if let prepared, let bouncer = move.bouncer { file(bouncer).discard(prepared) }
        await watch?.dismiss()
        await console?.close()
        for connection in [source, target] { await connection.close() }
    }

    var leftMilliseconds: Int { Int(max(0, deadline - Monotonic.milliseconds())) }
    private var sessions: ServiceSessions { ServiceSessions(connection: source, roles: move.roles) }
    var refusal: WriteRefusal { WriteRefusal(service: move.service, roles: move.roles, tables: move.tables) }

    // MARK: forward

    func move() async throws(ServiceMoveError) -> ServiceMoveFigures {
        do {
            try await look()
            for step in MovePlan.steps(try await facts()) {
                begun.append(step)
                report(.begun(step))
                try await take(step)
            }
        } catch {
            throw ServiceMoveError.from(error, side: move.from.name)
        }
        figures.totalMilliseconds = Int(Monotonic.milliseconds() - start)
        report(.done(figures))
        return figures
    }

    /// Who is there, before anything is done.
    private func look() async throws {
        for table in move.tables {
            let found = try await source.query("SELECT pg_catalog.to_regclass($1)::text", [.text(table.sql)])
            if found.firstValue != nil { tables.append(table) }
        }
        let found = try await sessions.read()
        seen = Set(found.map(\.processID))
        report(.found(sessions: found))
        guard move.fence == .strict else { return }
        for (side, connection) in [(move.from, source), (move.to, target)] {
            guard try await WriteRefusal.isPossible(on: connection) else { throw ServiceMoveError.notMigrated(side: side.name) }
        }
        report(.writers(try await ServiceSessions.writers(of: tables, on: source)))
    }

    private func facts() async throws -> MoveFacts {
        var known: MoveFacts.Bouncer?
        if let console, let bouncer = move.bouncer {
            // A name that is not in the file is found before anybody waits.
            _ = try file(bouncer).text(of: bouncer.entry)
            let database = try await console.database(bouncer.entry)
            known = MoveFacts.Bouncer(
                pointsAtTarget: database.address == (try await address(of: move.to, target)), isPaused: database.isPaused,
                releasesServers: try await console.releasesServers(bouncer.entry))
        }
        return MoveFacts(
            isStrict: move.fence == .strict, bouncer: known, hasCommand: !move.command.isEmpty,
            isRefusedOnSource: !(try await refusal.refusing(on: source)).isEmpty,
            isRefusedOnTarget: !(try await refusal.refusing(on: target)).isEmpty)
    }

    private func take(_ step: MoveStep) async throws {
        switch step {
        case .allow: try await refusal.remove(on: target, tryMilliseconds: 50) { leftMilliseconds }
        case .hold(let pausing, let fencing): try await hold(pausing: pausing, fencing: fencing)
        case .catchUp, .drain: try await drain()
        case .refuse:
            try await fence?.refuse(refusal, lifeMilliseconds: leftMilliseconds + 1)
        case .point: try await point()
        case .resume: try await resume()
        case .command:
            do {
                try await command(.move, from: move.from.name, to: move.to.name)
            } catch let error as ServiceMoveError {
                // What never ran has nothing to bring back.
                if case .command(_, .notStarted) = error { begun.removeLast() }
                throw error
            }
        case .lift: try await lift()
        case .end:
            let count = try await sessions.end(blockedBy: nil)
            figures.sessionsEnded += count
            report(.ended(sessions: count))
        case .wait: try await wait()
        }
    }

    // MARK: stopping writers

    private func hold(pausing: Bool, fencing: Bool) async throws {
        if fencing {
            fence = try await LockFence.open(move.from.options, tables: tables)
            if let mode = move.fenceLockMode { fence?.lockMode = mode }
        }
        if pausing, let bouncer = move.bouncer {
            prepared = try file(bouncer).prepare(bouncer.entry, .point(try await address(of: move.to, target)))
            watch = try await PauseWatch.start(
                move.pauseWatch, console: bouncer.console, entry: bouncer.entry, lifeMilliseconds: leftMilliseconds + 1_000)
        }
        var schedule = HoldSchedule()
        var rest: Int?
        var holders: [ServiceSession] = []
        while true {
            if let rest { try await Task.sleep(for: .milliseconds(min(rest, leftMilliseconds))) }
            guard let limit = schedule.next(leftMilliseconds: leftMilliseconds) else { break }
            let began = Monotonic.milliseconds()
            if try await tryHold(pausing: pausing, fencing: fencing, limitMilliseconds: limit) {
                if let pausedSince { report(.paused(milliseconds: Int(Monotonic.milliseconds() - pausedSince))) }
                if let fencedSince { report(.fenced(milliseconds: Int(Monotonic.milliseconds() - fencedSince))) }
                if fencing { try await probe() }
                return
            }
            holders = try await blockers(fencing: fencing)
            report(.released(afterMilliseconds: Int(Monotonic.milliseconds() - began)))
            rest = limit
        }
        throw ServiceMoveError.notHeld(
            service: move.service, side: move.from.name, milliseconds: move.deadlineMilliseconds, by: holders)
    }

    private func tryHold(pausing: Bool, fencing: Bool, limitMilliseconds: Int) async throws -> Bool {
        // Clients first: a transaction of theirs that waits at the fence would keep the PAUSE waiting.
        if pausing, let console, let bouncer = move.bouncer {
            let own = try await BouncerConsole.open(bouncer.console)
            pausedSince = Monotonic.milliseconds()
            guard try await console.pause(bouncer.entry, on: own, limitMilliseconds: limitMilliseconds) else {
                endPause()
                return false
            }
        }
        guard fencing, let fence else { return true }
        fencedSince = Monotonic.milliseconds()
        if try await fence.take(limitMilliseconds: limitMilliseconds, lifeMilliseconds: leftMilliseconds + 1) { return true }
        endFence()
        if pausing { try await resume() }
        return false
    }

    private func blockers(fencing: Bool) async throws -> [ServiceSession] {
        let busy = try await sessions.read().filter(\.isInTransaction)
        return fencing ? busy + (try await ServiceSessions.holding(tables, on: source)).filter { !busy.contains($0) } : busy
    }

    private func probe() async throws {
        let writers = try await ServiceSessions.writers(of: tables, on: source)
        let connection = try await PostgresConnection.connect(move.from.options)
        do {
            let finding = try await FenceCanary(connection: connection, tables: tables).probe(writers)
            report(.probed(roles: finding.held, untried: finding.untried))
            await connection.close()
        } catch {
            await connection.close()
            guard case FenceCanary.Failure.passed(let role, let table) = error else { throw error }
            // Not one that is full of holes, but one that is gone.
            guard await fence?.stands() == true else { throw ServiceMoveError.fenceLost(side: move.from.name) }
            throw ServiceMoveError.fencePassed(side: move.from.name, role: role, table: table)
        }
    }

    private func drain() async throws {
        let name = move.from.name
        let given = leftMilliseconds
        let drain = move.drain
        do {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask {
                    try await drain(name)
                    return true
                }
                group.addTask {
                    try await Task.sleep(for: .milliseconds(given))
                    return false
                }
                let isDrained = try await group.next() ?? false
                group.cancelAll()
                guard isDrained else { throw ServiceMoveError.notDrained(side: name, milliseconds: given, cause: nil) }
            }
        } catch let error as ServiceMoveError {
            throw error
        } catch is CancellationError {
            throw ServiceMoveError.cancelled
        } catch {
            throw ServiceMoveError.notDrained(side: name, milliseconds: given, cause: "\(error)")
        }
    }

    private func endPause() {
        guard let since = pausedSince else { return }
        pausedSince = nil
        figures.longestPauseMilliseconds = max(figures.longestPauseMilliseconds, Int(Monotonic.milliseconds() - since))
    }

    func endFence() {
        guard let since = fencedSince else { return }
        fencedSince = nil
        figures.longestFenceMilliseconds = max(figures.longestFenceMilliseconds, Int(Monotonic.milliseconds() - since))
    }

    func resume() async throws {
        guard let console, let bouncer = move.bouncer else { return }
        try await console.resume(bouncer.entry)
        endPause()
    }

    private func lift() async throws {
        do {
            try await fence?.lift()
        } catch {
            throw ServiceMoveError.fenceLost(side: move.from.name)
        }
        endFence()
    }

    // MARK: where the service goes

    func file(_ bouncer: ServiceMove.Bouncer) -> BouncerFileStore { BouncerFileStore(path: bouncer.file) }

    func address(of side: ServiceMove.Side, _ connection: PostgresConnection) async throws -> ServerAddress {
        if let address = move.bouncer?.addresses[side.name] { return address }
        guard let peer = await connection.peer else { throw PostgresError.closed("it was lost") }
        return ServerAddress(host: peer.host, port: peer.port, database: peer.database)
    }

    private func point() async throws {
        guard let console, let bouncer = move.bouncer else { return }
        let address = try await address(of: move.to, target)
        let prepared = try prepared ?? file(bouncer).prepare(bouncer.entry, .point(address))
        entryBefore = prepared.before
        try file(bouncer).commit(prepared)
        self.prepared = nil
        if entryBefore == (try file(bouncer).text(of: bouncer.entry)) { entryBefore = nil }
        try await console.reload()
        guard try await console.database(bouncer.entry).address == address else {
            throw ServiceMoveError.file(path: bouncer.file, .notRead(entry: bouncer.entry))
        }
    }

    func command(_ step: MoveCommand.Step, from: String, to: String) async throws {
        guard !move.command.isEmpty else { return }
        try await MoveCommand(words: move.command, service: move.service, logger: move.logger).run(
            step, from: from, to: to, leftMilliseconds: { leftMilliseconds },
            meanwhile: { try await endBlocked() })
    }

    /// A session of the service that waits at the fence keeps the service from ending in good order, and its write could only
    /// be refused.
    private func endBlocked() async throws {
        guard fencedSince != nil, let fence else { return }
        let count = try await sessions.end(blockedBy: fence.processID)
        if count > 0 {
            figures.sessionsEnded += count
            report(.ended(sessions: count))
        }
    }

    /// Until none of the service's sessions is seen any more. Whoever moved it knows when that was done, and three looks are enough;
    /// for a person's sake it is looked for much longer and closer: a service that connects for each request is there for some
    /// milliseconds at a time.
    private func wait() async throws {
        let isByHand = move.bouncer == nil && move.command.isEmpty
        var empty = 0
        var emptySince: Int64?
        var told: Set<String> = []
        let isRefused = begun.contains(.lift) || begun.contains(.end)
        while true {
            let now = try await sessions.read()
            seen.formUnion(now.map(\.processID))
            let kinds = Set(now.map(\.kind))
            if !kinds.isSubset(of: told) { report(.waiting(sessions: now)) }
            told.formUnion(kinds)
            figures.sessionsMoved = seen.count - now.count
            empty = now.isEmpty ? empty + 1 : 0
            emptySince = now.isEmpty ? emptySince ?? Monotonic.milliseconds() : nil
            let isQuiet = !isByHand || Monotonic.milliseconds() - (emptySince ?? Monotonic.milliseconds()) >= Self.quietMilliseconds
            if empty >= 3, isQuiet { return }
            guard leftMilliseconds > 0 else {
                throw ServiceMoveError.sessionsLeft(
                    service: move.service, side: move.from.name, milliseconds: move.deadlineMilliseconds, now)
            }
            try await endBlocked()
            if isRefused, !now.isEmpty { figures.sessionsEnded += try await sessions.end(blockedBy: nil) }
            try await Task.sleep(for: .milliseconds(min(isByHand && now.isEmpty ? Self.glanceMilliseconds : 100, leftMilliseconds)))
        }
    }
}

extension ServiceSession {
    /// What it has in common with the next one of the same program.
    fileprivate var kind: String { "\(role) \(application) \(client)" }
}

extension ServiceMoveError {
    /// What went wrong, when it is not said yet.
    static func from(_ error: any Error, side: String) -> ServiceMoveError {
        switch error {
        case let error as ServiceMoveError: error
        case PostgresError.cancelled, is CancellationError: .cancelled
        case let error as PostgresError: .server(side: side, error)
        default: .server(side: side, .protocolViolation("\(error)"))
        }
    }
}
