-- A role is known by its OID, which outlives a new name; as with tables, in this very database alone. NULL for PUBLIC, and for a
-- role that was gone when this was added.
ALTER TABLE lindero.guarded_grant ADD COLUMN grantee_oid oid, ADD COLUMN grantor_oid oid;
UPDATE lindero.guarded_grant g SET
  grantee_oid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = g.grantee),
  grantor_oid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = g.grantor);
