import ReplicationCore

/// Judges whether both servers have room for an initial copy, and for what is written while it runs.
struct CapacityChecks {
    /// What a job copies in a second, at worst; an initial copy on two cores is several times faster.
    static let slowBytesPerSecond = 20_000_000
    /// How many times what is expected there has to be room for.
    static let margin = 3.0
    /// Less than this is not worth a word when the disk cannot be seen.
    static let notableBytes = 1_000_000_000.0
    /// Connections beside those of the copy: stream, applier, heartbeat, and a look now and then.
    static let ownConnections = 4

    let facts: CapacityFacts
    let configuration: LinderoConfiguration

    private var copy: CopySettings { configuration.replication.copy }

    /// How long the copy may take.
    var copySeconds: Double {
        var rate = Self.slowBytesPerSecond * copy.jobs
        if copy.rateLimitBytes > 0 { rate = min(rate, copy.rateLimitBytes) }
        return Double(facts.tableBytes) / Double(rate)
    }

    /// Log that the source writes meanwhile, and the slot keeps.
    var keptBytes: Double { copySeconds * facts.walBytesPerSecond }

    func findings() -> [PreflightFinding] {
        var findings = [facts.source, facts.target].flatMap(connections)
        guard facts.isCopyAhead, configuration.replication.snapshot == .initial else { return findings }
        let source = Self.margin * keptBytes
        let target = Double(facts.totalBytes) + Self.margin * keptBytes
        let isOneDisk = facts.source.disk != nil && facts.source.disk?.number == facts.target.disk?.number
        if isOneDisk {
            findings += disk(facts.target, needs: source + target, what: "both copies of the data and the log of the copy")
        } else {
            findings += disk(facts.source, needs: source, what: "the log that is kept while tables are copied")
            findings += disk(facts.target, needs: target, what: "the tables, their indexes and the log of the copy")
        }
        return findings + retention() + indexWorkers()
    }

    /// The only workers of the server's that Lindero has a use for.
    private func indexWorkers() -> [PreflightFinding] {
        guard facts.target.indexWorkers == 0 else { return [] }
        return [
            PreflightFinding(
                .note, .workers, database: facts.target.database,
                "no parallel worker may help to build indexes once the tables are copied (max_worker_processes, max_parallel_workers or "
                    + "max_parallel_maintenance_workers is 0): that takes longer",
                fix: "ALTER SYSTEM SET max_parallel_maintenance_workers = '2'; with max_parallel_workers = '2' or more; SELECT pg_reload_conf();")
        ]
    }

    private func disk(
        _ server: CapacityFacts.Server, needs bytes: Double, what: String
    ) -> [PreflightFinding] {
        let words =
            "\(what) may take \(PlainText.bytes(bytes)) (three times \(PlainText.seconds(copySeconds)) at "
            + "\(PlainText.bytes(facts.walBytesPerSecond)) of log a second)"
        guard let disk = server.disk else {
            guard bytes >= Self.notableBytes else { return [] }
            return [
                PreflightFinding(
                    .note, .diskSpace, database: server.database, "\(words), and from here its disk cannot be seen",
                    fix: "df -h \(server.dataDirectory ?? "of the data directory"), on that server")
            ]
        }
        guard Double(disk.freeBytes) < bytes else { return [] }
        return [
            PreflightFinding(
                .blocker, .diskSpace, database: server.database,
                "\(words), and \(PlainText.bytes(disk.freeBytes)) are free",
                fix: "make room on the disk of \(server.dataDirectory ?? "its data directory")"
                    + (copy.rateLimitBytes > 0 ? ", or raise replication.copy.rate_limit: a shorter copy keeps less" : ""))
        ]
    }

    /// A slot that has to keep more than it may is invalidated, and the copy was for nothing.
    private func retention() -> [PreflightFinding] {
        guard facts.slotRetentionMegabytes >= 0 else { return [] }
        let limitBytes = Double(facts.slotRetentionMegabytes) * 1_048_576
        guard limitBytes < Self.margin * keptBytes else { return [] }
        let isSure = limitBytes < keptBytes
        let megabytes = Int((Self.margin * keptBytes / 1_048_576).rounded(.up))
        return [
            PreflightFinding(
                isSure ? .blocker : .warning, .slotRetention, database: facts.source.database,
                "max_slot_wal_keep_size is \(PlainText.bytes(limitBytes)), and \(PlainText.bytes(keptBytes)) are written while "
                    + "tables are copied: the slot \(isSure ? "would" : "could") be invalidated before the copy is done",
                fix: "ALTER SYSTEM SET max_slot_wal_keep_size = '\(megabytes)MB'; SELECT pg_reload_conf();")
        ]
    }

    private func connections(_ server: CapacityFacts.Server) -> [PreflightFinding] {
        let reserved = server.isSuperuser ? 0 : server.reservedConnections
        let free = server.connectionLimit - reserved - server.usedConnections
        let needed = copy.jobs + Self.ownConnections
        guard server.connectionLimit > 0, free < needed else { return [] }
        return [
            PreflightFinding(
                .warning, .connections, database: server.database,
                "\(max(0, free)) of \(server.connectionLimit) connections (max_connections) are free, and Lindero uses up to \(needed)",
                fix: "close some, lower replication.copy.jobs, or ALTER SYSTEM SET max_connections = "
                    + "'\(server.connectionLimit + needed)'; then restart the server")
        ]
    }
}
