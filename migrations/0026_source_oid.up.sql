-- Which table of the source was copied: its OID stays when its name goes to another one. NULL where nobody knows: of what was taken as it was, and
-- of what older versions copied.
ALTER TABLE lindero.table_copy ADD COLUMN source_oid oid;
