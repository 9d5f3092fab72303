-- What an applier's prepared statements ask of the tables that they take for ordinary: whether they are, and no trigger of theirs fires
-- for what is replicated.
--
-- Not immutable but for a plan: the planner asks it once, and whoever makes, enables or alters a trigger, or puts another table in the
-- place of one, voids every plan for it. What it asks is volatile and so sees what has committed until now, while the statement's own
-- snapshot is older than the locks that it has waited for.
CREATE FUNCTION lindero.firing_triggers(tables regclass[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = '' AS $$
BEGIN
    RETURN (SELECT count(*) FROM pg_catalog.pg_trigger t
            WHERE t.tgenabled IN ('R', 'A') AND t.tgrelid = ANY (tables::pg_catalog.oid[]))
        -- Of a partitioned table nobody knows here whose triggers fire.
        + (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind <> 'r' AND c.oid = ANY (tables::pg_catalog.oid[]));
END $$;

CREATE FUNCTION lindero.fires_nothing(tables regclass[]) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SET search_path = '' AS $$
BEGIN
    RETURN lindero.firing_triggers(tables) = 0;
END $$;

-- Whatever the database's default privileges say.
GRANT EXECUTE ON FUNCTION lindero.firing_triggers(regclass[]), lindero.fires_nothing(regclass[]) TO PUBLIC;
