-- Since when the target is known to have what its source lost: once the source has written as much anew, no position tells that any more.
ALTER TABLE lindero.direction ADD COLUMN ahead_at timestamptz;
