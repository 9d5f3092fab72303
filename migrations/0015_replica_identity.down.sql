-- Puts back what was there, as the end of a split would have.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT n.nspname, c.relname, r.identity, i.relname AS index_name
        FROM lindero.replica_identity r
             JOIN pg_catalog.pg_namespace n ON n.nspname = r.schema_name
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_name AND c.relreplident = 'f'
             LEFT JOIN (pg_catalog.pg_class i JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid)
                 ON i.relname = r.index_name AND x.indrelid = c.oid
    LOOP
        EXECUTE pg_catalog.format(
            'ALTER TABLE %I.%I REPLICA IDENTITY %s', found.nspname, found.relname,
            CASE WHEN found.identity = 'n' THEN 'NOTHING'
                 WHEN found.identity = 'i' AND found.index_name IS NOT NULL
                     THEN pg_catalog.format('USING INDEX %I', found.index_name)
                 ELSE 'DEFAULT' END);
    END LOOP;
END
$$;
DROP TABLE lindero.replica_identity;
