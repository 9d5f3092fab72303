ALTER TABLE lindero.quarantine DROP COLUMN emptied_lsn;
