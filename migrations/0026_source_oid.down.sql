ALTER TABLE lindero.table_copy DROP COLUMN source_oid;
