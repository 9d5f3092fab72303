DROP TABLE lindero.verification_difference;
DROP TABLE lindero.verification_table;
DROP TABLE lindero.verification;
