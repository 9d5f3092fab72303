import Foundation
import Glibc
import PostgresClient

/// A real pgbouncer in a temporary folder, on loopback; it ends with this object, or with the test process.
public final class BouncerProcess: Sendable {
    public let folder: String
    public let port: Int
    private let child: ChildProcess

    public struct Missing: Error, CustomStringConvertible {
        public let description = "pgbouncer is not installed. Run deploy/test.sh, which installs what the tests need."
    }

    /// - Parameters:
    ///   - entries: what stands in the file with `[databases]`, from its first byte to its last.
    ///   - poolMode: `transaction` or `session`.
    public static func start(entries: String, poolMode: String = "transaction") async throws -> BouncerProcess {
        for attempt in 1... {
            let bouncer = try BouncerProcess(entries: entries, poolMode: poolMode)
            do {
                try await waitUntil("pgbouncer listens; it said \(bouncer.child.errors)") {
                    if bouncer.child.exitCode != nil { throw TimedOut(what: bouncer.child.errors, seconds: 0) }
                    return (try? await bouncer.admin("SHOW VERSION")) != nil
                }
                return bouncer
            } catch {
                // Its port may have been taken meanwhile.
                if attempt == 3 { throw error }
            }
        }
        throw Missing()
    }

    private init(entries: String, poolMode: String) throws {
        guard let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].first(where: FileManager.default.isExecutableFile)
        else { throw Missing() }
        port = try PostgresCluster.freePort()
        folder = "/tmp/lindero-bouncer-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try entries.write(toFile: folder + "/databases.ini", atomically: true, encoding: .utf8)
        try "\"admin\" \"\"\n".write(toFile: folder + "/users", atomically: true, encoding: .utf8)
        // Whoever connects as U is U at the server: the test's roles need no list.
        try """
            %include \(folder)/databases.ini
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = hba
            auth_hba_file = \(folder)/hba
            auth_file = \(folder)/users
            admin_users = admin
            pool_mode = \(poolMode)
            ignore_startup_parameters = extra_float_digits
            default_pool_size = 10
            """.write(toFile: folder + "/pgbouncer.ini", atomically: true, encoding: .utf8)
        try "host all all 127.0.0.1/32 trust\n".write(toFile: folder + "/hba", atomically: true, encoding: .utf8)
        // It refuses to run as root.
        let script = """
            cd "$0"; if [ "$(id -u)" = 0 ]; then chown -R postgres: "$0"
            exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$1" "$0/pgbouncer.ini"; fi
            exec "$1" "$0/pgbouncer.ini"
            """
        child = try ChildProcess("/bin/bash", ["-c", script, folder, program], folder: folder + "-log")
        ProcessWarden.shared?.watch(child.processID, folder: folder + "-log")
    }

    deinit {
        child.signal(SIGKILL)
        ProcessWarden.shared?.forget(child.processID)
        for place in [folder, folder + "-log"] { try? FileManager.default.removeItem(atPath: place) }
    }

    /// The file with `[databases]`.
    public var entriesPath: String { folder + "/databases.ini" }
    public var console: String { "postgresql://admin@127.0.0.1:\(port)/pgbouncer" }

    /// Lets a role come in; roles are known before they connect.
    public func allow(_ role: String) async throws {
        let path = folder + "/users"
        let known = try String(contentsOfFile: path, encoding: .utf8)
        try (known + "\"\(role)\" \"\"\n").write(toFile: path, atomically: false, encoding: .utf8)
        try await admin("RELOAD")
    }

    public func conninfo(entry: String, user: String) -> String { "postgresql://\(user)@127.0.0.1:\(port)/\(entry)" }

    /// A command of the admin console.
    @discardableResult
    public func admin(_ command: String) async throws -> PostgresResult {
        var options = ConnectionOptions(console)
        options.usesPinnedSettings = false
        let connection = try await PostgresConnection.connect(options)
        do {
            let result = try await connection.execute(command)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }

    /// What it knows of an entry.
    public func database(_ entry: String) async throws -> PostgresRow? {
        try await admin("SHOW DATABASES").rows.first { $0["name"] == entry }
    }
}
