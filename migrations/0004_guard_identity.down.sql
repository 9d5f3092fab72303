ALTER TABLE lindero.guarded_grant DROP COLUMN column_number;
ALTER TABLE lindero.guarded_table DROP COLUMN database_id;
