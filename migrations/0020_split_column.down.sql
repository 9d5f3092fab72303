DROP TABLE lindero.split_column;
