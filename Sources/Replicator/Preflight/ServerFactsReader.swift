import PostgresClient
import ReplicationCore

/// Reads `ServerFacts` and `TableFacts`. Only reads, and only what any role may read.
enum ServerFactsReader {
    /// - Parameters:
    ///   - publication: the one to describe; others are passed over.
    ///   - roles: names of the configuration's roles, to see which exist.
    static func server(
        _ connection: PostgresConnection, publication: String?, roles: [String]
    ) async throws(PostgresError) -> ServerFacts {
        var facts = ServerFacts()
        facts.version = await connection.serverVersion
        // Older catalogs lack what the queries below name.
        guard facts.version >= SupportedVersion.oldest else { return facts }
        if let row = try await connection.query(PreflightSQL.server(version: facts.version)).rows.first {
            fill(&facts, from: row)
        }
        facts.serverStartedAt = try await connection.query("SELECT pg_catalog.pg_postmaster_start_time()::text").firstValue ?? ""
        facts.systemIdentifier = try? await connection.query(PreflightSQL.systemIdentifier).rows.first?[0]
        facts.slots = try await connection.query(PreflightSQL.slots).rows.map { row in
            ServerFacts.Slot(
                name: row["name"] ?? "", plugin: row["plugin"], database: row["database"],
                isActive: row["is_active"] == "t", holder: row["holder"], isLost: row["wal_status"] == "lost",
                isTwoPhase: row["two_phase"] == "t")
        }
        facts.openTransactions = try await connection.query(PreflightSQL.openTransactions).rows.map { row in
            ServerFacts.OpenTransaction(
                pid: number(row["pid"]), application: row["application"] ?? "", ageSeconds: number(row["age"])
            )
        }
        facts.preparedTransactions = try await connection.query(PreflightSQL.preparedTransactions).rows
            .compactMap { $0[0] }
        if let publication,
            let found = try await self.publication(connection, publication, version: facts.version)
        {
            facts.publications = [found]
        }
        if !roles.isEmpty {
            facts.roles = try await connection.query(PreflightSQL.roles, [.text(SQLText.arrayLiteral(roles))])
                .rows
                .map { ServerFacts.Role(name: $0["name"] ?? "", isSuperuser: $0["is_superuser"] == "t") }
        }
        return facts
    }

    /// Facts of those tables that exist, by oid.
    static func tables(
        _ connection: PostgresConnection, _ tables: [TableDescription]
    ) async throws(PostgresError) -> [UInt32: TableFacts] {
        if tables.isEmpty { return [:] }
        let oids = "{" + tables.map { String($0.oid) }.joined(separator: ",") + "}"
        var facts: [UInt32: TableFacts] = [:]
        for row in try await connection.query(PreflightSQL.tables, [.text(oids)]).rows {
            guard let oid = row["oid"].flatMap({ UInt32($0) }) else { continue }
            let name = QualifiedName(schema: row["schema"] ?? "", name: row["name"] ?? "")
            facts[oid] = TableFacts(
                name: name, owner: row["owner"] ?? "", isUnlogged: row["is_unlogged"] == "t",
                isFilteredByRowSecurity: row["is_filtered"] == "t", actsAsOwner: row["acts_as_owner"] == "t",
                maySelect: row["may_select"] == "t", mayInsert: row["may_insert"] == "t",
                mayUpdate: row["may_update"] == "t", mayDelete: row["may_delete"] == "t",
                mayTruncate: row["may_truncate"] == "t",
                firingTriggers: row["triggers"].map { $0.split(separator: "\n").map { String($0) } } ?? [],
                deferrableKeys: row["deferrable"].map { $0.split(separator: "\n").map { String($0) } } ?? [],
                identityCandidate: row["candidate"], hasSequence: row["has_sequence"] == "t",
                leafWithoutIdentity: row["leaf"], unlikeLeaf: row["unlike"])
        }
        return facts
    }

    static func publication(
        _ connection: PostgresConnection, _ name: String, version: Int
    ) async throws(PostgresError) -> ServerFacts.Publication? {
        guard let row = try await connection.query(PreflightSQL.publication, [.text(name)]).rows.first else {
            return nil
        }
        var publication = ServerFacts.Publication(
            name: name, missingOperations: [], publishesThroughRoot: row["via_root"] == "t", tables: [:])
        publication.missingOperations = ["insert", "update", "delete", "truncate"].filter { row[$0] != "t" }
        let sql = version >= 150_000 ? PreflightSQL.publishedTables : PreflightSQL.publishedTablesBefore15
        for row in try await connection.query(sql, [.text(name)]).rows {
            guard let schema = row["schema"], let table = row["name"] else { continue }
            let columns = row["columns"].map { Set($0.split(separator: "\n").map { String($0) }) }
            publication.tables[QualifiedName(schema: schema, name: table)] = ServerFacts.PublishedTable(
                columns: columns, hasRowFilter: row["has_filter"] == "t")
        }
        return publication
    }

    private static func fill(_ facts: inout ServerFacts, from row: PostgresRow) {
        facts.database = row["database"] ?? ""
        facts.databaseOID = row["database_oid"] ?? ""
        facts.encoding = row["encoding"] ?? ""
        facts.isInRecovery = row["is_in_recovery"] == "t"
        facts.user = row["user"] ?? ""
        facts.isSuperuser = row["is_superuser"] == "t"
        facts.mayReplicate = row["may_replicate"] == "t"
        facts.mayCreateInDatabase = row["may_create"] == "t"
        facts.mayUseOrigins = row["may_use_origins"] == "t"
        facts.maySetReplicationRole = row["may_set_role"] == "t"
        facts.walLevel = row["wal_level"] ?? ""
        facts.slotLimit = number(row["slot_limit"])
        facts.senderLimit = number(row["sender_limit"])
        facts.usedSenders = number(row["used_senders"])
        facts.slotRetentionMegabytes = number(row["slot_retention"])
        facts.idleSlotTimeoutSeconds = number(row["idle_slot_timeout"])
        facts.outputPlugins = row["output_plugins"].map(ServerChecks.libraries)
        facts.originLimit = number(row["origin_limit"])
        facts.usedOrigins = number(row["used_origins"])
        facts.preparedLimit = number(row["prepared_limit"])
        facts.standbyNames = row["standby_names"] ?? ""
        facts.applicationName = row["application_name"] ?? ""
        facts.hasLargeObjects = row["has_large_objects"] == "t"
    }

    private static func number(_ text: String?) -> Int { text.flatMap { Int($0) } ?? 0 }
}
