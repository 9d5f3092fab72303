/// The queries of preflight, for PostgreSQL 14 and later. They change nothing.
enum PreflightSQL {
    static func server(version: Int) -> String {
        // The right to set it can be granted from 15 on; before, it takes a superuser.
        let maySetRole =
            version >= 150_000
            ? "pg_catalog.has_parameter_privilege('session_replication_role', 'SET')" : "r.rolsuper"
        return """
            SELECT pg_catalog.current_database() AS database, d.oid AS database_oid,
                   pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
                   pg_catalog.pg_is_in_recovery() AS is_in_recovery, r.rolname AS user, r.rolsuper AS is_superuser,
                   r.rolsuper OR r.rolreplication OR EXISTS (
                       SELECT FROM pg_catalog.pg_roles managed
                       WHERE managed.rolname = 'rds_replication' AND pg_catalog.pg_has_role(r.oid, managed.oid, 'MEMBER')
                   ) AS may_replicate,
                   pg_catalog.has_database_privilege(d.oid, 'CREATE') AS may_create,
                   pg_catalog.has_function_privilege(
                       'pg_catalog.pg_replication_origin_session_setup(text)', 'EXECUTE')
                   AND pg_catalog.has_function_privilege(
                       'pg_catalog.pg_replication_origin_xact_setup(pg_lsn, timestamptz)', 'EXECUTE')
                   AND pg_catalog.has_function_privilege(
                       'pg_catalog.pg_replication_origin_create(text)', 'EXECUTE') AS may_use_origins,
                   \(maySetRole) AS may_set_role,
                   pg_catalog.current_setting('wal_level') AS wal_level,
                   pg_catalog.current_setting('max_replication_slots') AS slot_limit,
                   pg_catalog.current_setting('max_wal_senders') AS sender_limit,
                   (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()) AS used_senders,
                   (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size')
                       AS slot_retention,
                   (SELECT CASE unit WHEN 'min' THEN setting::bigint * 60 ELSE setting::bigint END
                    FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout') AS idle_slot_timeout,
                   pg_catalog.current_setting('output_plugin_libraries', true) AS output_plugins,
                   coalesce(pg_catalog.current_setting('max_active_replication_origins', true),
                            pg_catalog.current_setting('max_replication_slots')) AS origin_limit,
                   (SELECT count(*) FROM pg_catalog.pg_replication_origin) AS used_origins,
                   pg_catalog.current_setting('max_prepared_transactions') AS prepared_limit,
                   pg_catalog.current_setting('synchronous_standby_names') AS standby_names,
                   pg_catalog.current_setting('application_name') AS application_name,
                   EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS has_large_objects
            FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
            WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user
            """
    }

    static let systemIdentifier = "SELECT system_identifier FROM pg_catalog.pg_control_system()"

    static let slots = """
        SELECT s.slot_name AS name, s.plugin, s.database, s.active AS is_active, s.wal_status,
               s.two_phase, a.application_name AS holder
        FROM pg_catalog.pg_replication_slots s
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
        """

    /// A new slot waits for every transaction that has written, in any database of the cluster.
    static let openTransactions = """
        SELECT pid, application_name AS application,
               extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::bigint AS age
        FROM pg_catalog.pg_stat_activity
        WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND xact_start IS NOT NULL
        ORDER BY xact_start
        """

    static let preparedTransactions = "SELECT gid FROM pg_catalog.pg_prepared_xacts ORDER BY prepared"

    static let roles = """
        SELECT rolname AS name, rolsuper AS is_superuser FROM pg_catalog.pg_roles
        WHERE rolname = ANY ($1::pg_catalog.text[])
        """

    static let publication = """
        SELECT pubviaroot AS via_root, pubinsert AS insert, pubupdate AS update, pubdelete AS delete,
               pubtruncate AS truncate
        FROM pg_catalog.pg_publication WHERE pubname = $1
        """

    static let publishedTables = """
        SELECT p.schemaname AS schema, p.tablename AS name, p.rowfilter IS NOT NULL AS has_filter,
               CASE WHEN r.prattrs IS NOT NULL THEN pg_catalog.array_to_string(p.attnames, E'\\n') END AS columns
        FROM pg_catalog.pg_publication_tables p
             JOIN pg_catalog.pg_publication pub ON pub.pubname = p.pubname
             JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
             LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = pub.oid AND r.prrelid = c.oid
        WHERE p.pubname = $1
        """

    static let publishedTablesBefore15 = """
        SELECT schemaname AS schema, tablename AS name, false AS has_filter, NULL AS columns
        FROM pg_catalog.pg_publication_tables WHERE pubname = $1
        """

    /// `$1`: oids.
    static let tables = """
        SELECT c.oid, n.nspname AS schema, c.relname AS name, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
               c.relpersistence = 'u' AS is_unlogged, pg_catalog.row_security_active(c.oid) AS is_filtered,
               pg_catalog.pg_has_role(c.relowner, 'USAGE') AS acts_as_owner,
               pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AS may_select,
               pg_catalog.has_any_column_privilege(c.oid, 'INSERT') AS may_insert,
               pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') AS may_update,
               pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_delete,
               pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') AS may_truncate,
               (SELECT pg_catalog.string_agg(t.tgname, E'\\n' ORDER BY t.tgname) FROM pg_catalog.pg_trigger t
                WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')) AS triggers,
               (SELECT pg_catalog.string_agg(pg_catalog.format('%I ', k.conname)
                         || pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' DEFERRABLE.*$', ''), E'\\n' ORDER BY k.conname)
                FROM pg_catalog.pg_constraint k
                WHERE k.conrelid = c.oid AND k.condeferrable AND k.contype IN ('p', 'u', 'x')) AS deferrable,
               (SELECT ic.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
                  AND i.indpred IS NULL AND i.indexprs IS NULL
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                  WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::pg_catalog.int2[])
                                    AND NOT a.attnotnull)
                ORDER BY i.indnkeyatts, i.indexrelid LIMIT 1) AS candidate,
               EXISTS (SELECT FROM pg_catalog.pg_depend dep JOIN pg_catalog.pg_class s ON s.oid = dep.objid
                       WHERE dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND dep.refobjid = c.oid AND dep.refobjsubid > 0 AND s.relkind = 'S') AS has_sequence,
               CASE WHEN c.relkind = 'p' THEN
                   (SELECT min(l.oid::pg_catalog.regclass::pg_catalog.text)
                    FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class l ON l.oid = p.relid
                    WHERE p.isleaf AND l.relkind = 'r' AND (l.relreplident = 'n' OR NOT EXISTS (
                        SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid AND i.indimmediate
                          AND (i.indisprimary AND l.relreplident = 'd' OR i.indisreplident))
                      AND l.relreplident <> 'f'))
               END AS leaf,
               CASE WHEN c.relkind = 'p' THEN \(PartitionIdentity.unlikeLeaf) END AS unlike
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY ($1::pg_catalog.oid[])
        """
}
