import Foundation

/// Where the server programs of a PostgreSQL version are.
public struct PostgresBinaries: Sendable {
    public let version: Int
    public let folder: String

    public struct Missing: Error, CustomStringConvertible {
        public let version: Int
        public var description: String {
            "PostgreSQL \(version) is not installed. Run deploy/test.sh, which installs what the tests need."
        }
    }

    /// The version that `LINDERO_TEST_PG` names, else 15.
    public static var defaultVersion: Int {
        ProcessInfo.processInfo.environment["LINDERO_TEST_PG"].flatMap { Int($0) } ?? 15
    }

    public init(version: Int) throws {
        self.version = version
        let environment = ProcessInfo.processInfo.environment
        let candidates = [
            environment["LINDERO_PG\(version)_BIN"], "/usr/lib/postgresql/\(version)/bin",
            "/var/tmp/lindero-pg/\(version)/bin",
        ]
        guard
            let found = candidates.compactMap({ $0 }).first(where: {
                FileManager.default.isExecutableFile(atPath: $0 + "/postgres")
            })
        else { throw Missing(version: version) }
        folder = found
    }
}
