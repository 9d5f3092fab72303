-- A guarded table is known by its OID and a column by its number: both outlive a new name. They mean something in
-- this very database alone, so its identity is kept beside them; in a restored dump the names decide.
-- NULL in records of older versions.
ALTER TABLE lindero.guarded_table ADD COLUMN database_id text;
ALTER TABLE lindero.guarded_grant ADD COLUMN column_number int;
