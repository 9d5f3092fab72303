ALTER TABLE lindero.table_copy DROP COLUMN left_columns;
