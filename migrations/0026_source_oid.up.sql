-- Which table of the source was copied: its OID stays when its name goes to another one. NULL until the next start for what older versions copied.
ALTER TABLE lindero.table_copy ADD COLUMN source_oid oid;
