ALTER TABLE lindero.guarded_grant DROP COLUMN grantee_oid, DROP COLUMN grantor_oid;
