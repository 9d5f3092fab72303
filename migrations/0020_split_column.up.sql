-- Who owns each column that a split carries, kept beside `split_table`. A column that comes back to a side which wrote it before,
-- and has streamed under another owner meanwhile, has missed what that side wrote.
CREATE TABLE lindero.split_column (
    direction   text NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    column_name text NOT NULL,
    -- NULL: both sides write it.
    owner       text,
    -- Sides from which it travelled once and does no longer.
    left_sides  text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (direction, schema_name, table_name, column_name)
);
