-- Refuses writes of a service that has moved to the other database under a strict fence: called by statement triggers
-- whose condition names the service's roles, and which are made and dropped by the move. 25006 is what a standby says, so
-- connection pools that know it look for another server.
CREATE FUNCTION lindero.refuse_moved_service() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION 'service % has moved to another database', TG_ARGV[0]
        USING ERRCODE = 'read_only_sql_transaction', HINT = 'Connect to the database that `lindero status` names for it.';
END
$$;
REVOKE ALL ON FUNCTION lindero.refuse_moved_service() FROM PUBLIC;
