DROP TABLE lindero.table_emptied;
