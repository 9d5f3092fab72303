DELETE FROM lindero.conflict WHERE kind = 'repair';
ALTER TABLE lindero.conflict
    DROP CONSTRAINT conflict_kind_check,
    ADD CONSTRAINT conflict_kind_check
        CHECK (kind IN ('column', 'update_delete', 'insert_insert', 'delete_insert', 'key_change'));
