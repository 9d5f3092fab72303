import PostgresClient
import ReplicationCore

/// pgbouncer's admin console. It speaks the simple protocol alone, and knows no settings.
struct BouncerConsole {
    let connection: PostgresConnection

    struct Database {
        var address: ServerAddress
        var isPaused: Bool
        var poolMode: String?
    }

    static func options(_ conninfo: String) -> ConnectionOptions {
        var options = ConnectionOptions(conninfo)
        options.usesPinnedSettings = false
        return options
    }

    static func open(_ conninfo: String) async throws -> BouncerConsole {
        do throws(PostgresError) {
            return BouncerConsole(connection: try await PostgresConnection.connect(options(conninfo)))
        } catch {
            throw ServiceMoveError.bouncer(.unreachable("\(error)"))
        }
    }

    func close() async { await connection.close() }

    /// What the running pgbouncer knows of an entry.
    func database(_ entry: String) async throws -> Database {
        let rows = try await run("SHOW DATABASES").rows
        guard let row = rows.first(where: { $0["name"] == entry }) else { throw ServiceMoveError.bouncer(.noDatabase(entry)) }
        let address = ServerAddress(
            host: row["host"] ?? "", port: row["port"].flatMap { Int($0) } ?? 5432, database: row["database"] ?? "")
        return Database(address: address, isPaused: row["paused"] == "1", poolMode: row["pool_mode"])
    }

    /// Whether clients give their server back before they go. A user's own pool mode beats the database's.
    func releasesServers(_ entry: String) async throws -> Bool {
        var modes = Set(try await run("SHOW POOLS").rows.filter { $0["database"] == entry }.compactMap { $0["pool_mode"] })
        if modes.isEmpty, let mode = try await database(entry).poolMode { modes.insert(mode) }
        if modes.isEmpty {
            let setting = try await run("SHOW CONFIG").rows.first { $0["key"] == "pool_mode" }
            modes.insert(setting?["value"] ?? "session")
        }
        return !modes.contains("session")
    }

    /// Makes clients wait, and waits until no transaction of theirs is open.
    ///
    /// - Parameter console: one of its own, which is used up: pgbouncer does not answer a PAUSE that was taken back.
    /// - Returns: false when one was still open after the limit; clients go on then.
    func pause(_ entry: String, on console: BouncerConsole, limitMilliseconds: Int) async throws -> Bool {
        let (answers, answer) = AsyncStream<Result<Bool, any Error>>.makeStream()
        let pausing = Task {
            do {
                _ = try await console.run("PAUSE \(Self.quoted(entry))", timeoutMilliseconds: nil)
                answer.yield(.success(true))
            } catch {
                answer.yield(.failure(error))
            }
        }
        let timer = Task {
            try? await Task.sleep(for: .milliseconds(limitMilliseconds))
            answer.yield(.success(false))
        }
        var outcome: Result<Bool, any Error> = .failure(CancellationError())
        for await first in answers {
            outcome = first
            break
        }
        timer.cancel()
        let isPaused = (try? outcome.get()) == true
        if !isPaused { try await resume(entry) }
        pausing.cancel()
        Task { await console.close() }
        return try outcome.get()
    }

    /// Lets clients go on. Harmless where nobody waits.
    func resume(_ entry: String) async throws {
        do {
            _ = try await run("RESUME \(Self.quoted(entry))")
        } catch {
            guard try await database(entry).isPaused else { return }
            throw error
        }
    }

    /// Reads the files again. Servers of entries that changed are closed as soon as they are given back.
    func reload() async throws { _ = try await run("RELOAD") }

    /// Everything but a PAUSE is answered at once.
    private func run(_ command: String, timeoutMilliseconds: Int? = 10_000) async throws -> PostgresResult {
        do throws(PostgresError) {
            return try await connection.execute(command, timeoutMilliseconds: timeoutMilliseconds)
        } catch {
            switch error {
            case .cancelled: throw ServiceMoveError.cancelled
            case .server(let error): throw ServiceMoveError.bouncer(.refused(error.message))
            case .connection, .timeout, .closed, .parameter, .protocolViolation:
                throw ServiceMoveError.bouncer(.unreachable("\(error)"))
            }
        }
    }

    static func quoted(_ entry: String) -> String { "\"\(entry)\"" }
}
