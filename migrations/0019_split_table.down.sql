DROP TABLE lindero.split_table;
