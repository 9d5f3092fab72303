ALTER TABLE lindero.direction DROP COLUMN ahead_at;
