-- The policies that a split's shared columns have had: two writes that met are judged by the same one on both sides, whenever they
-- arrive.
CREATE TABLE lindero.split_policy (
    direction   text NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    column_name text NOT NULL,
    -- Where it began in the logs of both sides: it decides where at least one of the two writes came after that.
    origin_lsn  pg_lsn NOT NULL,
    other_lsn   pg_lsn NOT NULL,
    policy      text NOT NULL,
    -- The database that `prefer` prefers.
    side        text,
    PRIMARY KEY (direction, schema_name, table_name, column_name, origin_lsn, other_lsn)
);
