ALTER TABLE lindero.table_copy DROP COLUMN left_at_lsn;
