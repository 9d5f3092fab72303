ALTER TABLE lindero.direction
    -- The source's timeline that the changes came from. NULL until it was seen.
    ADD COLUMN timeline int,
    -- Tables that came later and are not whole yet, as quoted names.
    ADD COLUMN unfinished_tables text[] NOT NULL DEFAULT '{}',
    -- Whether foreign keys wait until the stream has passed the newest copy of a table.
    ADD COLUMN foreign_keys_wait boolean NOT NULL DEFAULT false;
