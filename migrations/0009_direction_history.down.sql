ALTER TABLE lindero.direction DROP COLUMN foreign_keys_wait, DROP COLUMN unfinished_tables, DROP COLUMN timeline;
