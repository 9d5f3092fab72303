DROP FUNCTION lindero.audited_side;
