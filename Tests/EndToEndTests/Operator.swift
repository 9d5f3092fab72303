import PostgresClient
import TestSupport

/// The role of an operator, and of the worker: no superuser, with the rights that the documentation asks for.
enum Operator {
    /// Makes one that owns the tables and acts as the services' roles, on each server.
    static func make(on sides: [PostgresConnection], services: [String]) async throws -> String {
        let role = "operator_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        for side in sides {
            let sql = """
                DO $$ BEGIN CREATE ROLE \(role) LOGIN REPLICATION; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
                GRANT \(services.joined(separator: ", ")), pg_read_all_stats TO \(role);
                GRANT SET ON PARAMETER session_replication_role TO \(role);
                DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO \(role)', current_database()); END $$;
                DO $$ DECLARE name regprocedure; BEGIN
                  FOR name IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_replication_origin_' LOOP
                    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO \(role)', name);
                  END LOOP; END $$;
                ALTER TABLE public."Reservas" OWNER TO \(role);
                """
            try await side.executeOnSharedServer(sql)
        }
        return role
    }
}
