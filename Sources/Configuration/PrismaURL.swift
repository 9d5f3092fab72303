/// Prisma's connection URLs are PostgreSQL's with parameters of its own, which libpq refuses.
public enum PrismaURL {
    /// Parameters that only Prisma's engine knows.
    static let ownParameters: Set<String> = [
        "schema", "connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout",
        "max_connection_lifetime", "max_idle_connection_lifetime", "single_use_connections", "sslidentity",
        "sslaccept",
    ]

    /// The URL as libpq takes it; text that is no PostgreSQL URL comes back unchanged.
    ///
    /// `sslaccept=strict` asks Prisma to check the server's certificate, so it becomes `sslmode=verify-full`, and
    /// with Prisma's own TLS parameters `sslcert` names the server's root certificate: `sslrootcert` for libpq.
    /// `sslpassword` belongs to `sslidentity` there and goes with it.
    public static func withoutPrismaParameters(_ url: String) -> String {
        guard ConnectionText.isURI(url) else { return url }
        let (base, parameters) = ConnectionText.splitQuery(url)
        let names = Set(parameters.map(name))
        let hasPrismaTLS = names.contains("sslaccept") || names.contains("sslidentity")
        let isStrict = parameters.contains { $0.lowercased() == "sslaccept=strict" }
        var kept: [String] = []
        for parameter in parameters {
            switch name(parameter) {
            case let name where ownParameters.contains(name): continue
            case "sslpassword" where names.contains("sslidentity"): continue
            case "sslmode" where isStrict: continue
            case "sslcert" where hasPrismaTLS:
                kept.append("sslrootcert" + parameter.dropFirst("sslcert".count))
            default: kept.append(parameter)
            }
        }
        if isStrict { kept.append("sslmode=verify-full") }
        return kept.isEmpty ? base : base + "?" + kept.joined(separator: "&")
    }

    /// Whether the URL goes through a pooler, on which no replication stream and no session setting lasts.
    public static func usesPooler(_ url: String) -> Bool {
        ConnectionText.splitQuery(url).parameters.contains { $0.lowercased() == "pgbouncer=true" }
    }

    private static func name(_ parameter: String) -> String {
        String(parameter.prefix { $0 != "=" })
    }
}
