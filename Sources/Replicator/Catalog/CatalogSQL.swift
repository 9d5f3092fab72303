/// The catalog queries. They name every object by schema, for sessions with an empty `search_path`.
enum CatalogSQL {
    static func tables(filter: String) -> String {
        """
        SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relispartition AS is_partition,
               c.relreplident AS identity,
               (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)) AS comparing_indexes
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'lindero')
          AND c.relname <> '_prisma_migrations'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                            AND d.deptype = 'e')
          \(filter)
        ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
        """
    }

    /// `$1`: oids of tables. Domains are followed down to the type under them all.
    static let columns = """
        WITH RECURSIVE domain(type, base, modifier) AS (
            SELECT oid, typbasetype, typtypmod FROM pg_catalog.pg_type WHERE typtype = 'd'
            UNION ALL
            SELECT domain.type, t.typbasetype, t.typtypmod
            FROM domain JOIN pg_catalog.pg_type t ON t.oid = domain.base AND t.typtype = 'd')
        SELECT a.attrelid AS table, a.attname AS name, a.attnum AS number,
               pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.atttypid AS type_oid,
               b.oid AS base_oid, coalesce(domain.modifier, a.atttypmod) AS modifier,
               pg_catalog.format_type(b.oid, coalesce(domain.modifier, a.atttypmod)) AS base_type, b.typarray AS array_oid,
               b.typtype AS base_kind, b.typcategory AS category,
               CASE WHEN b.oid <> 'pg_catalog.regclass'::pg_catalog.regtype AND NOT EXISTS (
                      SELECT FROM pg_catalog.pg_cast c WHERE c.castsource = 'pg_catalog.text'::pg_catalog.regtype
                        AND c.casttarget = b.oid AND c.castmethod = 'f' AND c.oid >= 16384)
                    THEN pg_catalog.format_type(b.oid, -1) END AS cast_name,
               CASE WHEN b.oid >= 16384 THEN (
                 SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                 FROM pg_catalog.pg_opclass c
                      JOIN pg_catalog.pg_am method ON method.oid = c.opcmethod AND method.amname = 'btree'
                      JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = b.oid
                           AND m.amoprighttype = b.oid AND m.amopstrategy = 3
                      JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
                      JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
                 WHERE c.opcdefault AND c.opcintype = b.oid) END AS equality,
               a.attnotnull AS is_not_null, a.attgenerated <> '' AS is_generated, a.attidentity AS identity,
               pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default,
               CASE WHEN a.atthasmissing AND t.typdelim = ',' THEN (a.attmissingval::text::text[])[1] END AS missing
        FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             LEFT JOIN domain ON domain.type = t.oid
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type under
                                  WHERE under.oid = domain.base AND under.typtype = 'd')
             JOIN pg_catalog.pg_type b ON b.oid = coalesce(domain.base, t.oid)
        WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attrelid, a.attnum
        """

    /// `$1`: oids of types. One row for each part of each type of the users' own that is in them, or one for an enum.
    static let definitions = """
        WITH RECURSIVE need(root, type) AS (
            SELECT t, t FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t
            UNION
            SELECT need.root, part.type FROM need JOIN pg_catalog.pg_type t ON t.oid = need.type \(parts) WHERE part.type >= 16384)
        SELECT need.root, pg_catalog.format_type(t.oid, -1) AS type, t.typtype AS kind, part.name,
               pg_catalog.format_type(part.type, part.modifier) AS part_type, part.type AS part_oid, part.modifier
        FROM need JOIN pg_catalog.pg_type t ON t.oid = need.type AND t.typtype IN ('c', 'd', 'e', 'r') LEFT \(joinedParts) ON true
        ORDER BY need.root, need.type, part.number
        """

    /// What a type `t` is made of: `part`, with `name`, `type`, `modifier` and `number`; any number of rows.
    static let parts = "CROSS \(joinedParts)"
    private static let joinedParts = """
        JOIN LATERAL (
            SELECT '' AS name, t.typelem AS type, -1 AS modifier, 0 AS number WHERE t.typelem <> 0
            UNION ALL SELECT '', t.typbasetype, t.typtypmod, 0 WHERE t.typtype = 'd'
            UNION ALL SELECT a.attname, a.atttypid, a.atttypmod, a.attnum FROM pg_catalog.pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL SELECT '', r.rngsubtype, -1, 0 FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) part
        """

    /// `$1`: oids of tables. One row for each key column of each valid unique index that is whole: no predicate,
    /// no expression. `INCLUDE` columns are no key.
    static let uniqueIndexes = """
        SELECT i.indrelid AS table, i.indexrelid AS index, i.indisprimary AS is_primary,
               i.indisreplident AS is_identity, i.indimmediate AS is_immediate, a.attname AS column
        FROM pg_catalog.pg_index i
             CROSS JOIN LATERAL unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS key(number, position)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.number
        WHERE i.indrelid = ANY ($1::pg_catalog.oid[]) AND i.indisunique AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL AND key.position <= i.indnkeyatts
        ORDER BY i.indrelid, i.indexrelid, key.position
        """
}
