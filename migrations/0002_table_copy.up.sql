-- Which tables the initial copy has finished, per direction; a row commits together with the table's data.
CREATE TABLE lindero.table_copy (
    direction    text NOT NULL,
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    -- The snapshot that the copy shows: transactions committed before it are in the table already.
    snapshot_lsn pg_lsn NOT NULL,
    rows         bigint NOT NULL,
    bytes        bigint NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (direction, schema_name, table_name)
);
