DROP TABLE lindero.replica_identity;
