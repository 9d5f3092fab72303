DROP TABLE lindero.heartbeat;
DROP TABLE lindero.direction;
