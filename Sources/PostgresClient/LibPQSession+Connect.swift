import CLibPQ
import Glibc

extension LibPQSession {
    /// Connects and sets the session up. On failure nothing stays open.
    func open() throws(PostgresError) {
        do throws(PostgresError) {
            try startConnecting()
            try finishConnecting()
            try configure()
        } catch {
            close("it could not be opened")
            throw error
        }
    }

    var peer: (host: String, port: Int, database: String)? {
        guard let handle = try? opened(), let host = PQhost(handle), let port = PQport(handle), let database = PQdb(handle) else { return nil }
        return (String(cString: host), Int(String(cString: port)) ?? 5432, String(cString: database))
    }

    private func startConnecting() throws(PostgresError) {
        guard ConninfoText.parse(options.conninfo) != nil else {
            throw .connection(
                ConnectionFailure(
                    reason: .options,
                    message: "the connection string is not valid; it must be a URI (postgresql://user@host/database) "
                        + "or keywords (host=… dbname=…), with special characters of a URI percent-encoded"))
        }
        let keywords = options.keywords
        let copies = keywords.map { (strdup($0.name), strdup($0.value)) }
        defer {
            for copy in copies {
                free(copy.0)
                free(copy.1)
            }
        }
        let names = copies.map { UnsafePointer($0.0) } + [nil]
        let values = copies.map { UnsafePointer($0.1) } + [nil]
        guard let handle = PQconnectStartParams(names, values, 1) else {
            throw .connection(ConnectionFailure(reason: .resources, message: "out of memory"))
        }
        adopt(handle)
        // Only verbose texts name the SQLSTATE of a refusal; results carry theirs in a field whatever this says.
        PQsetErrorVerbosity(handle, PQERRORS_VERBOSE)
        routeNotices()
    }

    private func finishConnecting() throws(PostgresError) {
        let handle = try opened()
        let seconds = attemptTimeoutSeconds(handle)
        var deadline = Deadline(milliseconds: seconds.map { $0 * 1_000 })
        var hasTimedOut = false
        var status = PQstatus(handle) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING
        while status != PGRES_POLLING_OK {
            if status == PGRES_POLLING_FAILED { throw connectFailure(handle, timedOutAfter: hasTimedOut ? seconds : nil) }
            do {
                _ = try wait(
                    reading: status == PGRES_POLLING_READING, writing: status == PGRES_POLLING_WRITING, until: deadline)
            } catch .timeout {
                // libpq goes on to the next address when this one breaks, so it is broken.
                hasTimedOut = true
                shutdown(PQsocket(handle), CInt(SHUT_RDWR))
            }
            status = PQconnectPoll(handle)
            // The next address or the next try at this one has its own time.
            if PQstatus(handle) == CONNECTION_STARTED { deadline = Deadline(milliseconds: seconds.map { $0 * 1_000 }) }
        }
    }

    /// What the connection string, the service or PGCONNECT_TIMEOUT says, else the options; nil waits for ever.
    private func attemptTimeoutSeconds(_ handle: OpaquePointer) -> Int? {
        var seconds = options.connectTimeoutSeconds
        if let text = ConninfoText.effective("connect_timeout", handle), let stated = Int(text) { seconds = stated }
        return seconds > 0 ? seconds : nil
    }

    private func connectFailure(_ handle: OpaquePointer, timedOutAfter seconds: Int?) -> PostgresError {
        let failure = ConninfoText.failure(String(cString: PQerrorMessage(handle)), conninfo: options.conninfo)
        guard let seconds, failure.sqlState == nil else { return .connection(failure) }
        return .connection(
            ConnectionFailure(
                reason: .timedOut, message: "no answer within \(seconds) s", target: failure.target))
    }

    private func configure() throws(PostgresError) {
        let handle = try opened()
        PQsetErrorVerbosity(handle, PQERRORS_DEFAULT)
        guard PQsetnonblocking(handle, 1) == 0 else { throw lost() }
        let settings = options.settings(forServerVersion: serverVersion)
        if settings.isEmpty { return }
        // set_config, unlike SET, takes a list such as search_path's from one string.
        let calls = settings.map { setting in
            "pg_catalog.set_config(\(ServerText.literal(setting.name)), \(ServerText.literal(setting.value)), false)"
        }
        do {
            _ = try simple("SELECT " + calls.joined(separator: ", "))
        } catch .server(let error) where error.isFatal {
            throw .server(error)
        }
    }
}
