-- Where a direction went on without a table that it had copied: the table was no longer in lindero.yaml. What was written to
-- it since is missing here, so a table that comes back is not taken for whole. NULL while it is there.
ALTER TABLE lindero.table_copy ADD COLUMN left_at_lsn pg_lsn;
