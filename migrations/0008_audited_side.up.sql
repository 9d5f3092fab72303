-- Which side the writing role belongs to, at the time of the write, so that the audit knows roles that were made after
-- it: NULL for superusers and for whoever can act as the table's owner, '(unlisted)' for a role of no side. The body is
-- bound to its names when it is made, so no search_path changes what it means.
CREATE FUNCTION lindero.audited_side(sides text[], roles text[], relation regclass) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (
        SELECT CASE WHEN NOT me.rolsuper THEN coalesce(
            (SELECT listed.side
             FROM unnest(sides, roles) WITH ORDINALITY AS listed(side, role, position)
                  JOIN pg_catalog.pg_roles holder ON holder.rolname = listed.role
             WHERE pg_catalog.pg_has_role(me.oid, holder.oid, 'MEMBER')
             ORDER BY listed.position LIMIT 1),
            CASE WHEN NOT pg_catalog.pg_has_role(me.oid, c.relowner, 'MEMBER') THEN '(unlisted)' END) END
        FROM pg_catalog.pg_roles me, pg_catalog.pg_class c
        WHERE me.rolname = current_user AND c.oid = relation);
