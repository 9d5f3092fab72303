import Glibc
import PostgresClient
import ReplicationCore

/// What an initial copy takes of two servers: room on their disks, log that is kept meanwhile, connections.
struct CapacityFacts: Sendable {
    struct Server: Sendable {
        var database = ""
        /// Where new tables go, and where the log is; `nil` when the role may not know.
        var tables = Place()
        var log = Place()
        var connectionLimit = 0
        /// Of these, for superusers and the like.
        var reservedConnections = 0
        var usedConnections = 0
        var isSuperuser = false
        /// That may help to build one index.
        var indexWorkers = 2
    }

    struct Place: Sendable, Equatable {
        var folder: String?
        /// `nil` when this program runs elsewhere.
        var disk: Disk?
    }

    struct Disk: Sendable, Equatable {
        var freeBytes: Int
        /// Equal for two folders of one disk.
        var number: UInt
    }

    var source = Server()
    var target = Server()
    /// Of the tables that are copied, without and with their indexes.
    var tableBytes = 0
    var totalBytes = 0
    var walBytesPerSecond = 0.0
    /// -1 for no limit.
    var slotRetentionMegabytes = -1
    /// Whether there is a copy to be made.
    var isCopyAhead = true

    // MARK: reading

    /// How long the log is watched for its growth just now.
    private static let watchMilliseconds = 300

    static func read(
        source: PreflightSide, target: PreflightSide, tables: [TableDescription], isCopyAhead: Bool
    ) async throws(PostgresError) -> CapacityFacts {
        var facts = CapacityFacts()
        facts.isCopyAhead = isCopyAhead
        facts.slotRetentionMegabytes = source.facts.slotRetentionMegabytes
        facts.source = try await server(source)
        facts.target = try await server(target)
        guard isCopyAhead else { return facts }
        let oids = PostgresParameter.text("{" + tables.map { String($0.oid) }.joined(separator: ",") + "}")
        let sizes = try await source.connection.query(
            """
            SELECT coalesce(sum(pg_catalog.pg_table_size(leaf)), 0)::bigint::text,
              coalesce(sum(pg_catalog.pg_total_relation_size(leaf)), 0)::bigint::text
            FROM (SELECT DISTINCT coalesce(part.relid, asked.oid) AS leaf
                  FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked(oid)
                  LEFT JOIN LATERAL pg_catalog.pg_partition_tree(asked.oid) AS part ON true) AS leaves
            """, [oids]
        ).rows.first
        facts.tableBytes = sizes?[0].flatMap { Int($0) } ?? 0
        facts.totalBytes = sizes?[1].flatMap { Int($0) } ?? 0
        facts.walBytesPerSecond = try await walRate(source.connection)
        return facts
    }

    private static func server(_ side: PreflightSide) async throws(PostgresError) -> Server {
        var server = Server()
        server.database = side.name
        server.isSuperuser = side.facts.isSuperuser
        let row = try await side.connection.query(
            """
            SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'),
              (pg_catalog.inet_server_addr() IS NOT DISTINCT FROM pg_catalog.inet_client_addr())::text,
              pg_catalog.current_setting('max_connections'),
              (pg_catalog.current_setting('superuser_reserved_connections')::int
                + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0))::text,
              (SELECT count(*)::text FROM pg_catalog.pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()),
              least(pg_catalog.current_setting('max_worker_processes')::int, pg_catalog.current_setting('max_parallel_workers')::int,
                pg_catalog.current_setting('max_parallel_maintenance_workers')::int)::text,
              (SELECT nullif(pg_catalog.pg_tablespace_location(s.oid), '')
               FROM pg_catalog.pg_tablespace s JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
               WHERE CASE pg_catalog.current_setting('default_tablespace') WHEN '' THEN s.oid = d.dattablespace
                     ELSE s.spcname = pg_catalog.current_setting('default_tablespace') END)
            """
        ).rows.first
        server.tables.folder = row?[6] ?? row?[0]
        server.log.folder = row?[0].map { $0 + "/pg_wal" }
        if row?[1] == "true" {
            server.tables.disk = server.tables.folder.flatMap(disk)
            // A stranger may not look into the data's folder; the log is there but for those who put it elsewhere.
            server.log.disk = server.log.folder.flatMap(disk) ?? row?[0].flatMap(disk)
        }
        server.connectionLimit = row?[2].flatMap { Int($0) } ?? 0
        server.reservedConnections = row?[3].flatMap { Int($0) } ?? 0
        server.usedConnections = row?[4].flatMap { Int($0) } ?? 0
        server.indexWorkers = row?[5].flatMap { Int($0) } ?? 0
        return server
    }

    private static func disk(of folder: String) -> Disk? {
        var (status, file) = (Glibc.statvfs(), Glibc.stat())
        guard statvfs(folder, &status) == 0, stat(folder, &file) == 0 else { return nil }
        return Disk(freeBytes: Int(clamping: UInt64(status.f_bavail) * UInt64(status.f_frsize)), number: UInt(file.st_dev))
    }

    /// The larger of what the server has written on average and what it writes now.
    private static func walRate(_ connection: PostgresConnection) async throws(PostgresError) -> Double {
        let average = try await connection.query(
            """
            SELECT (wal_bytes / greatest(1, extract(epoch FROM pg_catalog.clock_timestamp() - stats_reset)))::float8::text
            FROM pg_catalog.pg_stat_wal
            """
        ).firstValue.flatMap { Double($0) }
        let now = """
            SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0')::text
            """
        let before = try await connection.query(now).firstValue.flatMap { Double($0) } ?? 0
        try? await Task.sleep(for: .milliseconds(watchMilliseconds))
        let after = try await connection.query(now).firstValue.flatMap { Double($0) } ?? 0
        return max(average ?? 0, (after - before) * 1_000 / Double(watchMilliseconds))
    }
}
