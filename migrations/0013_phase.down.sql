DROP TABLE lindero.phase;
