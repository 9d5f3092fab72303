DO $$
BEGIN
    IF EXISTS (SELECT FROM lindero.conflict WHERE state = 'open') THEN
        RAISE EXCEPTION 'conflicts are open' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run `lindero conflicts list`, then resolve them.';
    END IF;
END
$$;
ALTER TABLE lindero.direction DROP COLUMN causal_clock, DROP COLUMN causal_lsn, DROP COLUMN hybrid_clock;
DROP TABLE lindero.conflict;
