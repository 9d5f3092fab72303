/// Which servers Lindero works with.
public enum SupportedVersion {
    public static let oldest = 140_000

    /// What is wrong with a server of this version, as libpq counts (`150004` for 15.4); `nil` for nothing.
    public static func failure(_ version: Int) -> ReplicationFailure? {
        guard version < oldest else { return nil }
        let name = version >= 100_000 ? "\(version / 10_000)" : "before 10"
        return ReplicationFailure(
            .unsupportedVersion, "The server is PostgreSQL \(name); Lindero needs 14 or later.",
            nextStep: "Upgrade the server to 14 or later (pg_upgrade, or your provider's upgrade), then run `lindero check`.",
            isBlocker: true)
    }
}
