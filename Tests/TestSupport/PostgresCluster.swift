import Foundation
import Glibc
import PostgresClient
import Synchronization

/// A real PostgreSQL cluster in a temporary folder, on a unix socket and on loopback.
///
/// A small shell watches the test process through a pipe: when that process ends, however it does, the shell stops
/// the server and removes the folder.
public final class PostgresCluster: Sendable {
    public let version: Int
    public let folder: String
    public let port: Int
    private let binaries: PostgresBinaries
    private let keeper: ChildProcess

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
        var isPortTaken: Bool { description.contains("Address already in use") }
    }

    // MARK: shared clusters

    private static let registry = Mutex<[String: Task<PostgresCluster, any Error>]>([:])

    /// The cluster that all tests of this process share under a name.
    public static func shared(_ role: String = "source", version: Int? = nil) async throws -> PostgresCluster {
        let version = version ?? PostgresBinaries.defaultVersion
        let task = registry.withLock { registry in
            let key = "\(role)-\(version)"
            if let task = registry[key] { return task }
            let task = Task { try await start(version: version) }
            registry[key] = task
            return task
        }
        return try await task.value
    }

    /// Starts a cluster of its own, for a test that stops or breaks it.
    ///
    /// - Parameter clockSeconds: how far its clock is ahead of the machine's, to be set anew with `setClock`; Debian's
    ///   libfaketime sees to that. `nil`: the machine's clock.
    public static func start(
        version: Int? = nil, settings: [String: String] = [:], primary: PostgresCluster? = nil, clockSeconds: Int? = nil
    ) async throws -> PostgresCluster {
        let version = version ?? PostgresBinaries.defaultVersion
        // Between our choice of a port and the server's bind somebody else may take it: then another port.
        for _ in 0..<3 {
            let cluster = try PostgresCluster(version, settings, primary, clockSeconds)
            do {
                try await cluster.waitUntilReady()
                return cluster
            } catch let failure as Failure where failure.isPortTaken {
                cluster.remove()
            }
        }
        let cluster = try PostgresCluster(version, settings, primary, clockSeconds)
        try await cluster.waitUntilReady()
        return cluster
    }

    /// Starts a physical standby of a running cluster, with a slot of its own there.
    public static func startStandby(of primary: PostgresCluster) async throws -> PostgresCluster {
        try await start(version: primary.version, primary: primary)
    }

    static let defaults: [String: String] = [
        "wal_level": "logical", "fsync": "off", "full_page_writes": "off", "max_wal_senders": "200",
        "max_replication_slots": "1000", "max_connections": "500", "shared_buffers": "64MB",
        "track_commit_timestamp": "on", "max_prepared_transactions": "20", "listen_addresses": "127.0.0.1",
        "max_worker_processes": "16", "wal_sender_timeout": "10s", "autovacuum_naptime": "10s",
    ]

    private init(_ version: Int, _ settings: [String: String], _ primary: PostgresCluster?, _ clockSeconds: Int?) throws {
        self.version = version
        binaries = try PostgresBinaries(version: version)
        port = try Self.freePort()
        let name = "lindero-pg-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        folder = "/tmp/" + name
        var lines = Self.defaults
        // Until 17 the slots' limit is the origins' too.
        if version >= 18 {
            lines["max_active_replication_origins"] = settings["max_replication_slots"] ?? lines["max_replication_slots"]
        }
        lines.merge(settings) { _, new in new }
        lines["port"] = "\(port)"
        lines["unix_socket_directories"] = folder
        let configuration = lines.sorted { $0.key < $1.key }.map { "\($0.key) = '\($0.value)'" }.joined(separator: "\n")
        keeper = try ChildProcess(
            "/bin/bash", ["-c", Self.keeperScript, "keeper", folder, binaries.folder, "\(getpid())", configuration, primary?.conninfo() ?? "", clockSeconds.map(Self.clock) ?? ""],
            folder: NSTemporaryDirectory() + name + "-log")
    }

    /// Arguments: folder, programs, parent, configuration, the primary of a standby, the clock's offset. Ends when its standard
    /// input does.
    private static let keeperScript = """
        set -u
        folder=$1 bin=$2
        trap '' INT
        as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi; }
        mkdir -p "$folder" && chmod 700 "$folder"; [ "$(id -u)" = 0 ] && chown postgres: "$folder"
        cd "$folder"
        slot=$(basename "$folder"); slot=${slot//-/_}
        if [ -n "$5" ]; then as "$bin/pg_basebackup" -D "$folder/data" -d "$5" -R -C -S "$slot" -c fast --no-sync >"$folder/initdb.log" 2>&1
        else as "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 --no-sync >"$folder/initdb.log" 2>&1 \
          || as "$bin/initdb" -D "$folder/data" -A trust -U postgres --no-locale -E UTF8 --no-sync >"$folder/initdb.log" 2>&1
        fi
        printf '%s\\n' "$4" | as tee -a "$folder/data/postgresql.conf" >/dev/null
        clock=(); [ -n "$6" ] && clock=(env "LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1 | head -1)" "FAKETIME_TIMESTAMP_FILE=$folder/clock" \
          FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1) && printf '%s\\n' "$6" | as tee "$folder/clock" >/dev/null
        start() { as "${clock[@]}" "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 60 start >/dev/null 2>&1 </dev/null; }
        start; echo "ready $?"
        while read -r word mode; do
          case $word in
            stop) as "$bin/pg_ctl" -D "$folder/data" -m "$mode" -w stop >/dev/null 2>&1 </dev/null; echo "stopped $?";;
            start) start; echo "started $?";;
            kill) kill -9 "$(head -1 "$folder/data/postmaster.pid")"; echo "killed $?";;
            clock) printf '%s\\n' "$mode" | as tee "$folder/clock" >/dev/null; echo "set $?";;
          esac
        done
        as "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 </dev/null
        cd / && rm -rf "$folder" "${TMPDIR:-/tmp}/$(basename "$folder")-log"
        """

    private func waitUntilReady() async throws {
        try await waitUntil("PostgreSQL \(version) starts", timeoutSeconds: 90) { [keeper] in
            keeper.output.contains("ready ")
        }
        guard keeper.output.contains("ready 0") else {
            let log = (try? String(contentsOfFile: folder + "/server.log", encoding: .utf8)) ?? keeper.errors
            throw Failure(description: "PostgreSQL \(version) did not start: \(log.suffix(600))")
        }
    }

    /// The kernel's choice of a port nobody listens on.
    static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { plain in
                bind(descriptor, plain, length) == 0 ? getsockname(descriptor, plain, &length) : -1
            }
        }
        guard code == 0 else { throw Failure(description: "No free port.") }
        return Int(UInt16(bigEndian: address.sin_port))
    }

    // MARK: use

    /// A conninfo over loopback.
    public func conninfo(database: String = "postgres", user: String = "postgres") -> String {
        "postgresql://\(user)@127.0.0.1:\(port)/\(database)"
    }

    /// Makes a database with a name of its own; returns the superuser's conninfo.
    public func createDatabase(prefix: String = "t") async throws -> String {
        let name = prefix + "_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try await execute("CREATE DATABASE \"\(name)\"")
        return conninfo(database: name)
    }

    /// Runs SQL as the superuser in the database `postgres`.
    @discardableResult
    public func execute(_ sql: String) async throws -> PostgresResult {
        var options = ConnectionOptions(conninfo())
        options.usesPinnedSettings = false
        let connection = try await PostgresConnection.connect(options)
        do {
            let result = try await connection.execute(sql)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }

    /// Stops the server: `fast` or `immediate`.
    public func stop(mode: String = "fast") async throws { try await command("stop \(mode)", answer: "stopped") }

    /// Starts it again.
    public func restart() async throws { try await command("start", answer: "started") }

    /// Ends the postmaster as a crash would.
    public func kill() async throws { try await command("kill", answer: "killed") }

    /// Sets the clock of a server that was started with one of its own; within a second its processes have it.
    public func setClock(secondsAhead: Int) async throws { try await command("clock \(Self.clock(secondsAhead))", answer: "set") }

    /// As libfaketime reads it.
    private static func clock(_ secondsAhead: Int) -> String { secondsAhead < 0 ? "\(secondsAhead)s" : "+\(secondsAhead)s" }

    /// Ends the cluster and removes its folder. Otherwise the end of the process does.
    public func remove() { keeper.closeInput() }

    private func command(_ line: String, answer: String) async throws {
        let before = keeper.output.components(separatedBy: answer).count
        keeper.write(Array((line + "\n").utf8))
        try await waitUntil("the server has \(answer)", timeoutSeconds: 90) { [keeper] in
            keeper.output.components(separatedBy: answer).count > before
        }
    }
}
