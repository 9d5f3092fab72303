-- Sequences whose numbers are shared with the other side of a split: as they were found, so that the way back restores
-- them. The row commits together with the change.
CREATE TABLE lindero.sequence_split (
    schema_name   text NOT NULL,
    sequence_name text NOT NULL,
    mode          text NOT NULL CHECK (mode IN ('interleave', 'ranges')),
    increment     bigint NOT NULL,
    minimum       bigint NOT NULL,
    maximum       bigint NOT NULL,
    start         bigint NOT NULL,
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schema_name, sequence_name)
);
