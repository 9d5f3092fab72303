ALTER TABLE lindero.split_table DROP COLUMN origin_oids, DROP COLUMN other_oids;
