-- Which pieces of a large table the initial copy has finished; a row commits together with the piece's data.
-- All pieces of one table always show the same snapshot. They go when the table's row in table_copy comes.
CREATE TABLE lindero.table_copy_chunk (
    direction    text NOT NULL,
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    -- The heap on the source: the table itself, or one of its partitions.
    heap         oid NOT NULL,
    -- Blocks of that heap; to_block is the first that is not in the piece.
    from_block   bigint NOT NULL,
    to_block     bigint NOT NULL,
    -- The snapshot that the piece shows.
    snapshot_lsn pg_lsn NOT NULL,
    -- Digest of the table's files and columns; pieces of another shape do not fit together.
    shape        text NOT NULL,
    rows         bigint NOT NULL,
    bytes        bigint NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (direction, schema_name, table_name, heap, from_block)
);
