import PostgresClient

/// Everything in a database, and of its server, that Lindero could leave behind, as sorted lines.
enum CatalogDump {
    static func read(_ connection: PostgresConnection) async throws -> [String] {
        try await connection.query(sql).rows.compactMap { $0[0] }
    }

    /// What PostgreSQL spells in two ways is spelt in one: a default access list, and the order in lists.
    private static let sql = """
        SELECT 'namespace ' || nspname || ' ' || coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
        UNION ALL SELECT 'class ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || c.relreplident::text || ' '
          || pg_get_userbyid(c.relowner) || ' ' || coalesce(c.reloptions::text, '') || ' '
          || (SELECT coalesce(string_agg(entry::text, ' ' ORDER BY entry::text), '') FROM unnest(
               coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) entry)
          FROM pg_class c WHERE c.oid >= 16384 AND c.relnamespace <> 'pg_toast'::regnamespace
        UNION ALL SELECT 'attribute ' || attrelid::regclass || '.' || attname || ' ' || atttypid::regtype || ' '
          || (SELECT coalesce(string_agg(entry::text, ' ' ORDER BY entry::text), '') FROM unnest(attacl) entry)
          FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
          WHERE attrelid >= 16384 AND c.relnamespace <> 'pg_toast'::regnamespace
        UNION ALL SELECT 'index ' || indexrelid::regclass || ' ' || indisreplident FROM pg_index WHERE indexrelid >= 16384
          AND indrelid::regclass::text NOT LIKE 'pg_toast%'
        UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE oid >= 16384
        UNION ALL SELECT 'trigger ' || tgname || ' ' || tgrelid::regclass || ' ' || tgenabled::text FROM pg_trigger WHERE oid >= 16384
        UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
        UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE oid >= 16384
        UNION ALL SELECT 'type ' || typname FROM pg_type WHERE oid >= 16384 AND typname !~ '^_?pg_toast'
        UNION ALL SELECT 'sequence ' || seqrelid::regclass || ' ' || seqincrement || ' ' || seqmin || ' ' || seqmax || ' ' || seqstart
          FROM pg_sequence WHERE seqrelid >= 16384
        UNION ALL SELECT 'default privileges ' || defaclrole::regrole || ' ' || defaclobjtype::text FROM pg_default_acl
        UNION ALL SELECT 'setting ' || setrole || ' ' || setconfig::text FROM pg_db_role_setting
          WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata
        UNION ALL SELECT 'publication ' || pubname FROM pg_publication
        UNION ALL SELECT 'subscription ' || subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL SELECT 'extension ' || extname FROM pg_extension
        UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
        UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin o, pg_database d
          WHERE d.datname = current_database() AND roname LIKE 'lindero%' || d.oid || '%'
        UNION ALL SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY 1
        """
}
