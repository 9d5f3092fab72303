-- When its slot was made anew, because what came next in the one before was lost, or given up: from then on rows may differ that nobody's
-- log will ever make alike.
ALTER TABLE lindero.direction ADD COLUMN renewed_at timestamptz;
