import Foundation
import PostgresClient
import TestSupport

/// A cluster where `bot` and `tls_bot` need their password, and `tls_bot` TLS too. Its certificate is for localhost and
/// 127.0.0.1. Shared by the tests of this process.
struct SecureServer {
    /// With what connection strings, service files and password files each have to quote or escape.
    static let password = "Right'horse:7"
    static let wrongPassword = "Wrong'staple:9"

    let cluster: PostgresCluster

    private static let starting = Task { try await start() }

    static func shared() async throws -> SecureServer { try await starting.value }

    /// Whether the server that tests run on was built with TLS; some builds of some versions are not.
    static let hasTLS: Bool = {
        guard let binaries = try? PostgresBinaries(version: PostgresBinaries.defaultVersion),
            let program = FileManager.default.contents(atPath: binaries.folder + "/postgres")
        else { return false }
        return program.range(of: Data("libssl.so".utf8)) != nil
    }()

    /// The CA that signed the server's certificate.
    var authority: String { cluster.folder + "/tls/ca.pem" }
    /// A CA that signed nothing.
    var stranger: String { cluster.folder + "/tls/stranger.pem" }

    /// Keywords for 127.0.0.1; later ones win. Without `passfile` nothing of the person who runs the tests is read.
    func conninfo(_ more: String, user: String = "bot", host: String = "127.0.0.1") -> String {
        "host=\(host) hostaddr=127.0.0.1 port=\(cluster.port) dbname=postgres user=\(user) passfile=/nowhere \(more)"
    }

    /// A value as connection strings quote it.
    static func quoted(_ value: String) -> String { "'" + value.replacing("'", with: "\\'") + "'" }

    /// Writes a file that only its owner may read.
    func writeSecret(_ text: String, as name: String) throws -> String {
        let path = cluster.folder + "/" + name
        guard
            FileManager.default.createFile(
                atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
        else { throw TestFailure() }
        return path
    }

    private static func start() async throws -> SecureServer {
        let cluster = try await PostgresCluster.start(settings: ["password_encryption": "scram-sha-256"])
        let literal = "'" + password.replacing("'", with: "''") + "'"
        try await cluster.execute(
            """
            CREATE ROLE bot LOGIN REPLICATION PASSWORD \(literal);
            CREATE ROLE tls_bot LOGIN PASSWORD \(literal);
            """)
        let rules = """
            host all bot 127.0.0.1/32 scram-sha-256
            hostssl all tls_bot 127.0.0.1/32 scram-sha-256
            hostnossl all tls_bot 127.0.0.1/32 reject
            host all all 127.0.0.1/32 trust

            """
        try rules.write(toFile: cluster.folder + "/data/pg_hba.conf", atomically: false, encoding: .utf8)
        let server = SecureServer(cluster: cluster)
        if hasTLS { try await server.turnOnTLS() }
        try await cluster.execute("SELECT pg_reload_conf()")
        try await waitUntil("the server has read its rules") {
            let options = ConnectionOptions(server.conninfo("password=\(quoted(wrongPassword))"))
            let error = await postgresError { try await PostgresConnection.connect(options).close() }
            let used = try await cluster.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return error != nil && used.firstValue == (hasTLS ? "t" : "f")
        }
        return server
    }

    private func turnOnTLS() async throws {
        let child = try ChildProcess(
            "/bin/bash", ["-euc", Self.certificates, "certificates", cluster.folder], folder: cluster.folder + "/tls")
        child.closeInput()
        guard try await child.wait(timeoutSeconds: 60) == 0 else {
            throw NoCertificates(reason: child.errors)
        }
        for (name, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl", "on")] {
            try await cluster.execute("ALTER SYSTEM SET \(name) = '\(value)'")
        }
    }

    private struct NoCertificates: Error { let reason: String }

    private static let certificates = """
        cd "$1/tls"
        new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@"; }
        new -x509 -days 2 -subj "/CN=Lindero's test CA" -keyout ca.key -out ca.pem
        new -x509 -days 2 -subj "/CN=Lindero's other CA" -keyout stranger.key -out stranger.pem
        new -subj /CN=localhost -keyout server.key -out server.csr
        echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >names
        openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem
        chmod 600 server.key
        chown --reference="$1/data" server.key server.pem
        mv server.key server.pem "$1/data"
        """
}
