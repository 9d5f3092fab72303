-- What `verify --repair` writes over on one side of a split is kept there, like any value that lost: `policy` says why
-- (`owner`, a policy, or `take` for a person), and for a deleted row `lost_value` holds all of it.
ALTER TABLE lindero.conflict
    DROP CONSTRAINT conflict_kind_check,
    ADD CONSTRAINT conflict_kind_check
        CHECK (kind IN ('column', 'update_delete', 'insert_insert', 'delete_insert', 'key_change', 'repair'));
