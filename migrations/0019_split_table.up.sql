-- What a split carries: its tables, and which of their columns stay with their owners. Kept on the side that is not the origin,
-- written before anything streams. A table that comes back to lindero.yaml, and a column that no longer is private, have missed
-- what was written meanwhile.
CREATE TABLE lindero.split_table (
    -- The direction that reads the origin.
    direction       text NOT NULL,
    schema_name     text NOT NULL,
    table_name      text NOT NULL,
    private_columns text[] NOT NULL,
    -- When the split went on without it; NULL while it is there.
    left_at         timestamptz,
    PRIMARY KEY (direction, schema_name, table_name)
);
