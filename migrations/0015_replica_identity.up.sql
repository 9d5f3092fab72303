-- Tables whose changes have to carry the whole old row while both sides of a split write them: their replica identity as it
-- was found, so that the end restores it. The row commits together with the change.
CREATE TABLE lindero.replica_identity (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    -- As pg_class.relreplident: d default, n nothing, i index.
    identity    text NOT NULL CHECK (identity IN ('d', 'n', 'i')),
    index_name  text,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schema_name, table_name)
);
