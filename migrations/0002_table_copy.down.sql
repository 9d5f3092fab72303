DROP TABLE lindero.table_copy;
