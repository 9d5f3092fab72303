-- Where the source emptied the table of a change that waited: its row is gone there, whatever the change says.
ALTER TABLE lindero.quarantine ADD COLUMN emptied_lsn pg_lsn;
