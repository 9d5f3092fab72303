-- The progress as a row, written in every applying transaction. Since PostgreSQL 16 an aborted transaction, too,
-- advances the replication origin that it named: the origin alone can be ahead of the data, the row cannot.
ALTER TABLE lindero.direction ADD applied_lsn pg_lsn;
