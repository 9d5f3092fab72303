-- The way from one database to two and back: every piece of work that `lindero advance` and `rollback` began, in order, in the
-- origin database. The last row says what the worker has to run.
CREATE TABLE lindero.phase (
    move        int NOT NULL,
    number      int NOT NULL,
    from_phase  text NOT NULL CHECK (from_phase IN ('shared', 'replica', 'split')),
    to_phase    text NOT NULL CHECK (to_phase IN ('shared', 'replica', 'split')),
    step        text NOT NULL,
    work        text NOT NULL,
    worker      text NOT NULL,
    -- Who began it: user, host, process.
    operator    text NOT NULL,
    began_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    -- What was measured: counts, sizes, milliseconds. No row data.
    figures     jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (move, number)
);
