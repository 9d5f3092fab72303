DROP TABLE lindero.split_policy;
