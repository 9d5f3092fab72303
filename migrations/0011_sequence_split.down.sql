DO $$
BEGIN
    IF EXISTS (SELECT FROM lindero.sequence_split) THEN
        RAISE EXCEPTION 'sequences are shared with another database' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run `lindero sequences restore` first.';
    END IF;
END
$$;
DROP TABLE lindero.sequence_split;
