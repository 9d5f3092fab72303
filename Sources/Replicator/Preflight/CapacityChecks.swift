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
        let findings = [facts.source, facts.target].flatMap(connections)
        guard facts.isCopyAhead, configuration.replication.snapshot == .initial else { return findings }
        return findings + disks() + retention() + indexWorkers()
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

    /// Something that needs room.
    private struct Need {
        var database: String
        var place: CapacityFacts.Place
        var bytes: Double
        var what: String
    }

    /// What needs room on one disk has to fit there together; a disk that cannot be seen is one of its server's.
    private func disks() -> [PreflightFinding] {
        let log = Self.margin * keptBytes
        let needs = [
            Need(database: facts.source.database, place: facts.source.log, bytes: log, what: "the log that is kept while tables are copied"),
            Need(database: facts.target.database, place: facts.target.tables, bytes: Double(facts.totalBytes), what: "the tables and their indexes"),
            Need(database: facts.target.database, place: facts.target.log, bytes: log, what: "the log of the copy"),
        ]
        var together: [[Need]] = []
        for need in needs {
            let place = together.firstIndex { others in
                others.contains { other in
                    if let disk = need.place.disk { return other.place.disk?.number == disk.number }
                    return other.place.disk == nil && other.database == need.database
                }
            }
            if let place { together[place].append(need) } else { together.append([need]) }
        }
        return together.flatMap(disk)
    }

    private func disk(_ needs: [Need]) -> [PreflightFinding] {
        guard let largest = needs.max(by: { $0.bytes < $1.bytes }), let last = needs.last else { return [] }
        let bytes = needs.reduce(0) { $0 + $1.bytes }
        let words =
            "\(needs.map(\.what).joined(separator: " and ")) may take \(PlainText.bytes(bytes)) (log: three times "
            + "\(PlainText.seconds(copySeconds)) at \(PlainText.bytes(facts.walBytesPerSecond)) a second)"
        guard let free = needs.compactMap({ $0.place.disk?.freeBytes }).min() else {
            guard bytes >= Self.notableBytes else { return [] }
            return [
                PreflightFinding(
                    .note, .diskSpace, database: last.database, "\(words), and from here the disk cannot be seen",
                    fix: "df -h \(largest.place.folder ?? "of the data directory"), on that server")
            ]
        }
        guard Double(free) < bytes else { return [] }
        return [
            PreflightFinding(
                .blocker, .diskSpace, database: last.database,
                "\(words), and \(PlainText.bytes(free)) are free",
                fix: "make room on the disk of \(largest.place.folder ?? "the data directory")"
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
