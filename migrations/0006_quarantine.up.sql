-- Changes that the target refused and that a table's `on_error: quarantine` let pass, for a person to decide.
-- The row commits together with the rest of its source transaction.
CREATE TABLE lindero.quarantine (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction      text NOT NULL,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    -- insert, update or delete.
    operation      text NOT NULL,
    source_xid     bigint NOT NULL,
    commit_lsn     pg_lsn NOT NULL,
    commit_time    timestamptz NOT NULL,
    -- Among the changes of its source transaction, from 0.
    position       bigint NOT NULL,
    -- Why: never with values.
    sqlstate       text,
    reason         text NOT NULL,
    -- The change as the source sent it: its Relation message and its own (pgoutput, protocol 1).
    relation       bytea NOT NULL,
    change         bytea NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- open, applied or discarded.
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'applied', 'discarded')),
    decided_at     timestamptz,
    decided_by     text,
    UNIQUE (direction, commit_lsn, position)
);
CREATE INDEX quarantine_open ON lindero.quarantine (direction, id) WHERE state = 'open';
