ALTER TABLE lindero.direction DROP applied_lsn;
