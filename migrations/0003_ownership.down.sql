DO $$
BEGIN
    IF EXISTS (SELECT FROM lindero.guarded_table) THEN
        RAISE EXCEPTION 'the guard is still on' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run `lindero guard remove` first.';
    END IF;
END
$$;
DROP TABLE lindero.guarded_grant;
DROP TABLE lindero.guarded_table;
DROP TABLE lindero.audit;
