DO $$
BEGIN
    IF EXISTS (SELECT FROM lindero.quarantine WHERE state = 'open') THEN
        RAISE EXCEPTION 'changes are in quarantine' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run `lindero quarantine list`, then retry or discard them.';
    END IF;
END
$$;
DROP TABLE lindero.quarantine;
