-- Where the source emptied a table (TRUNCATE) last: what waits in quarantine from before is no row any more. A table of its own, since who
-- prepares transactions may hold rows of lindero.quarantine for as long as the source likes.
CREATE TABLE lindero.table_emptied (
    direction   text NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    -- Of the source transaction, and among its changes, as in lindero.quarantine.
    commit_lsn  pg_lsn NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (direction, schema_name, table_name)
);
