ALTER TABLE lindero.direction DROP COLUMN renewed_at;
