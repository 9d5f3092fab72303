-- Who wrote a column that another side owns, in `guard --mode audit`. Filled by triggers of the guarded tables;
-- row values appear in row_key alone.
CREATE TABLE lindero.audit (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    -- INSERT, UPDATE, DELETE or TRUNCATE.
    operation      text NOT NULL,
    -- The side that the role belongs to.
    side           text NOT NULL,
    -- current_user of the statement, and the role that logged in.
    role_name      text NOT NULL,
    session_name   text NOT NULL,
    -- The match columns; NULL for TRUNCATE.
    row_key        jsonb,
    -- Columns changed that the side does not own; empty when the operation itself was not the side's to do.
    column_names   text[] NOT NULL
);

-- Tables under guard.
CREATE TABLE lindero.guarded_table (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    table_oid   oid NOT NULL,
    owner_name  text NOT NULL,
    mode        text NOT NULL CHECK (mode IN ('enforce', 'audit')),
    guarded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, table_name)
);

-- The access lists (relacl, attacl) of guarded tables: as they were before, and as the guard left them. Names, not
-- OIDs, so that a dump can be restored elsewhere and `guard remove` still works there.
CREATE TABLE lindero.guarded_grant (
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    moment       text NOT NULL CHECK (moment IN ('before', 'after')),
    -- NULL for the table itself.
    column_name  text,
    privilege    text NOT NULL,
    -- NULL for PUBLIC.
    grantee      text,
    grantor      text NOT NULL,
    is_grantable boolean NOT NULL,
    FOREIGN KEY (schema_name, table_name) REFERENCES lindero.guarded_table ON DELETE CASCADE
);
CREATE INDEX ON lindero.guarded_grant (schema_name, table_name);
