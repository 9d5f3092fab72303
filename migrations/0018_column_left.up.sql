-- Columns that do not travel, by name, each with the position of the source since when: 0/0 if the table's copy did not carry it.
-- One that travels again has missed what was written meanwhile.
ALTER TABLE lindero.table_copy ADD COLUMN left_columns jsonb NOT NULL DEFAULT '{}';
