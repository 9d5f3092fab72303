/// Queries for facts about tables whose oids are `$1`.
enum SplitFactsSQL {
    static let checks = """
        SELECT k.conrelid AS table, k.conname AS name,
               (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS columns
        FROM pg_catalog.pg_constraint k
        WHERE k.contype = 'c' AND k.conrelid = ANY ($1::pg_catalog.oid[])
        ORDER BY k.conrelid, k.conname
        """

    /// A deferrable primary key is no identity.
    static let leaves = """
        SELECT w.oid AS table, n.nspname AS schema, c.relname AS name, c.relreplident = 'f' AS is_full,
               (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY a.attnum)
                FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                WHERE i.indrelid = c.oid AND i.indimmediate
                  AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)) AS columns
        FROM unnest($1::pg_catalog.oid[]) AS w(oid)
             CROSS JOIN LATERAL pg_catalog.pg_partition_tree(w.oid) AS tree
             JOIN pg_catalog.pg_class c ON c.oid = tree.relid AND c.oid <> w.oid AND c.relkind = 'r'
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        ORDER BY w.oid, n.nspname, c.relname
        """
}
