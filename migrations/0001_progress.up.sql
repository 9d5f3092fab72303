-- What a direction knows about itself, kept in its target. The applied LSN is not here: it lives in the
-- replication origin, which PostgreSQL commits together with the data.
CREATE TABLE lindero.direction (
    name              text PRIMARY KEY,
    slot              text NOT NULL,
    publication       text NOT NULL,
    origin            text NOT NULL,
    -- Identity of the source cluster; another one under the same address is refused.
    system_identifier text NOT NULL,
    -- Where the slot became consistent: a recreated slot starts later and is refused. Zero until it is made.
    start_lsn         pg_lsn NOT NULL,
    -- Tables that Lindero made on this target, as quoted names: only these get the source's keys and indexes.
    created_tables    text[] NOT NULL DEFAULT '{}',
    -- When the initial copy was complete, keys and indexes included.
    prepared_at       timestamptz,
    state             text NOT NULL DEFAULT 'created',
    problem           text,
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- The last heartbeat of each direction, as seen by the target: sent_at is the source's clock.
CREATE TABLE lindero.heartbeat (
    direction   text PRIMARY KEY,
    source_lsn  pg_lsn NOT NULL,
    sent_at     timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Time from commit to visible over the worker's recent heartbeats, and its rate, for readers elsewhere.
    p50_ms          float8,
    p95_ms          float8,
    p99_ms          float8,
    rows_per_second float8
);
