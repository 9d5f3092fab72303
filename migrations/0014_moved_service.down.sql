-- With the triggers: without Lindero nobody is refused.
DROP FUNCTION lindero.refuse_moved_service() CASCADE;
