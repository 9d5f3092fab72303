-- Comparisons of a direction's two databases, kept in its target: where an interrupted one goes on, and what the last one
-- said, for `status` and the gate `verify_age`.
CREATE TABLE lindero.verification (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction   text NOT NULL,
    -- Digest of what is compared: tables, columns, keys. Another scope begins anew.
    scope       text NOT NULL,
    -- Whether it covers every table of the direction.
    is_whole    boolean NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    -- undecided: no difference was found, but not everything could be compared.
    result      text CHECK (result IN ('equal', 'different', 'undecided')),
    CHECK ((result IS NULL) = (finished_at IS NULL))
);
CREATE INDEX verification_direction ON lindero.verification (direction, id);

-- How far it is in each table. All before the position is compared, and every row of it decided.
CREATE TABLE lindero.verification_table (
    verification bigint NOT NULL REFERENCES lindero.verification ON DELETE CASCADE,
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    -- Where each side has an order of its own, the source is walked first (0), then the target (1).
    walk         int NOT NULL DEFAULT 0,
    -- A key, in text form: row data, as below. NULL at the beginning.
    position     text[],
    rows         bigint NOT NULL DEFAULT 0,
    rechecked    bigint NOT NULL DEFAULT 0,
    differences  bigint NOT NULL DEFAULT 0,
    undecided    bigint NOT NULL DEFAULT 0,
    source_lsn   pg_lsn NOT NULL DEFAULT '0/0',
    finished_at  timestamptz,
    PRIMARY KEY (verification, schema_name, table_name)
);

-- The first differences of each table. Keys are row data: nobody reads this table but the schema's owner.
CREATE TABLE lindero.verification_difference (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verification bigint NOT NULL REFERENCES lindero.verification ON DELETE CASCADE,
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    -- In the order of the match columns, in text form.
    row_key      text[] NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('changed', 'missing', 'extra')),
    column_names text[] NOT NULL
);
CREATE INDEX verification_difference_table ON lindero.verification_difference (verification, schema_name, table_name);
