DROP TABLE lindero.table_copy_chunk;
