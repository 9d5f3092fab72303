-- What two sides of a split wrote at the same time, and which of it stands. A row is written where the losing change
-- arrived, in the transaction that let it lose: so every loser is on record once, in one of the two databases.
-- Values are row data: nobody reads this table but the schema's owner, and `conflicts show` prints them only when asked.
CREATE TABLE lindero.conflict (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Of the losing change.
    direction     text NOT NULL,
    schema_name   text NOT NULL,
    table_name    text NOT NULL,
    -- The match columns by name, in their text form.
    row_key       jsonb NOT NULL,
    -- NULL when it is about the whole row.
    column_name   text,
    kind          text NOT NULL
        CHECK (kind IN ('column', 'update_delete', 'insert_insert', 'delete_insert', 'key_change')),
    -- What decided: a policy of lindero.yaml, or for rows `row_ended` or `row_missing`.
    policy        text NOT NULL,
    -- The databases that wrote what stands and what does not.
    winner        text NOT NULL,
    loser         text NOT NULL,
    -- In text form; of a whole row a JSON object of columns in text form, and NULL for a row that is not there.
    kept_value    text,
    lost_value    text,
    -- Commit times and positions on the databases that wrote them; NULL for what stood before anybody looked.
    kept_at       timestamptz,
    lost_at       timestamptz NOT NULL,
    -- The hybrid clock of both, in microseconds since 2000.
    kept_version  bigint,
    lost_version  bigint,
    kept_lsn      pg_lsn,
    lost_lsn      pg_lsn NOT NULL,
    -- Among the changes of the loser's transaction, from 0: one transaction may write a column more than once.
    lost_position bigint NOT NULL DEFAULT 0,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- open: waits for a person; settled: the policy decided for good; resolved: a person decided.
    state         text NOT NULL CHECK (state IN ('open', 'settled', 'resolved')),
    resolved_at   timestamptz,
    resolved_by   text,
    -- What the person took: a database, or a value of their own.
    resolution    text,
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
-- The same loser once, however often its transaction is applied. A key may be longer than an index entry, so its hash
-- stands for it, twice to be sure.
CREATE UNIQUE INDEX conflict_loser ON lindero.conflict (
    direction, lost_lsn, lost_position, schema_name, table_name, coalesce(column_name, ''),
    jsonb_hash_extended(row_key, 0), jsonb_hash_extended(row_key, 1));
CREATE INDEX conflict_open ON lindero.conflict (recorded_at) WHERE state = 'open';
CREATE INDEX conflict_count ON lindero.conflict (schema_name, table_name, column_name, policy, state);

ALTER TABLE lindero.direction
    -- Beside applied_lsn, the three other numbers that a direction of a split restarts from; NULL outside of one. Times are
    -- microseconds since 2000. The source's hybrid clock at applied_lsn:
    ADD COLUMN hybrid_clock bigint,
    -- What the source had seen of the target there: a position in the target's own log, and its hybrid clock.
    ADD COLUMN causal_lsn pg_lsn,
    ADD COLUMN causal_clock bigint;
