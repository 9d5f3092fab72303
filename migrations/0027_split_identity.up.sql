-- Which table of each side a split's table is: its OID stays when its name goes to another one. More than one where it was made anew, or made
-- partitioned: the last is the present one, and changes of the former ones may be on their way. Empty where nobody knows yet.
ALTER TABLE lindero.split_table ADD COLUMN origin_oids oid[] NOT NULL DEFAULT '{}', ADD COLUMN other_oids oid[] NOT NULL DEFAULT '{}';
