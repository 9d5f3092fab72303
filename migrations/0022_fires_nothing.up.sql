-- Whether none of these tables has a trigger that fires for what is replicated, for an applier's prepared statements.
--
-- Not immutable but for a plan: the planner asks it once, and whoever makes, enables or alters a trigger voids every plan for its
-- table. What it asks is volatile and so sees what has committed until now, while the statement's own snapshot is older than the
-- locks that it has waited for.
CREATE FUNCTION lindero.firing_triggers(tables regclass[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = '' AS $$
BEGIN
    RETURN (SELECT count(*) FROM pg_catalog.pg_trigger t
            WHERE t.tgenabled IN ('R', 'A') AND t.tgrelid = ANY (tables::pg_catalog.oid[]));
END $$;

CREATE FUNCTION lindero.fires_nothing(tables regclass[]) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SET search_path = '' AS $$
BEGIN
    RETURN lindero.firing_triggers(tables) = 0;
END $$;

-- Whatever the database's default privileges say.
GRANT EXECUTE ON FUNCTION lindero.firing_triggers(regclass[]), lindero.fires_nothing(regclass[]) TO PUBLIC;
