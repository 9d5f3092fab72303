DROP FUNCTION lindero.fires_nothing(regclass[]);
DROP FUNCTION lindero.firing_triggers(regclass[]);
