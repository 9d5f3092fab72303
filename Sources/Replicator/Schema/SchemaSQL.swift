/// Catalog queries that give a source's definitions as SQL. Run them with an empty `search_path`, so that every name
/// comes qualified. `$1` is an array of table OIDs.
enum SchemaSQL {
    /// The tables with their partitions: oid, name, parent, bound, key.
    static let tables = """
        WITH RECURSIVE tree AS (
          SELECT c.oid, NULL::oid AS parent, 0 AS depth FROM pg_class c WHERE c.oid = ANY($1::oid[])
          UNION ALL
          SELECT i.inhrelid, i.inhparent, tree.depth + 1 FROM tree JOIN pg_class p ON p.oid = tree.oid
            AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = tree.oid)
        SELECT DISTINCT ON (tree.depth, n.nspname, c.relname) c.oid::text, n.nspname, c.relname, c.relkind,
               pn.nspname AS parent_schema, pc.relname AS parent_name,
               pg_get_expr(c.relpartbound, c.oid) AS bound,
               CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key
        FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_class pc ON pc.oid = tree.parent LEFT JOIN pg_namespace pn ON pn.oid = pc.relnamespace
        ORDER BY tree.depth, n.nspname, c.relname, tree.parent NULLS LAST
        """

    /// Columns of the roots, in order.
    static let columns = """
        SELECT a.attrelid::text AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
               a.attnotnull::text AS not_null, a.attidentity AS identity, a.attgenerated AS generated,
               pg_get_expr(d.adbin, d.adrelid) AS expression,
               CASE WHEN a.attcollation <> t.typcollation THEN
                 (SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname) FROM pg_collation co
                  JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END AS collation
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attrelid, a.attnum
        """

    /// Sequences that column defaults call, as CREATE SEQUENCE statements.
    static let sequences = """
        SELECT DISTINCT format('CREATE SEQUENCE IF NOT EXISTS %I.%I AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s%s',
               n.nspname, c.relname, format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart,
               CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END) AS sql
        FROM pg_attrdef d JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
          AND p.refclassid = 'pg_class'::regclass
        JOIN pg_class c ON c.oid = p.refobjid AND c.relkind = 'S' JOIN pg_sequence s ON s.seqrelid = c.oid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE d.adrelid = ANY($1::oid[]) ORDER BY 1
        """

    /// Sequences owned by a column of the tables (serial), as ALTER SEQUENCE statements.
    static let sequenceOwners = """
        SELECT format('ALTER SEQUENCE %I.%I OWNED BY %s.%I', n.nspname, c.relname, p.refobjid::regclass, a.attname) AS sql
        FROM pg_depend p JOIN pg_class c ON c.oid = p.objid AND c.relkind = 'S'
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
        WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.deptype = 'a'
          AND p.refobjid = ANY($1::oid[]) ORDER BY 1
        """

    /// Every type that the tables' columns need, and how deep below a column.
    private static let need = """
        need AS (
          SELECT a.atttypid AS oid, 0 AS depth FROM pg_attribute a
          WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
          UNION
          SELECT dependency.oid, need.depth + 1 FROM need JOIN pg_type t ON t.oid = need.oid
          CROSS JOIN LATERAL (
            SELECT t.typelem AS oid WHERE t.typelem <> 0 AND t.typcategory = 'A'
            UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
            UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid
              AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
            UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) dependency
          WHERE need.depth < 64)
        """

    /// User-defined types that the tables' columns need, dependencies first: kind, oid, schema, name, extension. Arrays come with
    /// their elements' types; a domain has the category of what it stands for, an array's as well.
    static let types = """
        WITH RECURSIVE \(need)
        SELECT t.oid::text, t.typtype, n.nspname, t.typname, max(need.depth) AS depth, e.extname,
               (SELECT en.nspname FROM pg_namespace en WHERE en.oid = e.extnamespace) AS extension_schema
        FROM need JOIN pg_type t ON t.oid = need.oid JOIN pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_depend p ON p.classid = 'pg_type'::regclass AND p.objid = t.oid AND p.deptype = 'e'
        LEFT JOIN pg_extension e ON e.oid = p.refobjid
        WHERE t.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND (t.typtype IN ('e', 'd', 'c', 'r') OR t.typtype = 'b' AND t.typcategory <> 'A')
        GROUP BY t.oid, t.typtype, n.nspname, t.typname, e.extname, e.extnamespace
        ORDER BY max(need.depth) DESC, t.oid
        """

    /// The definition of one type; `$1` is its OID.
    static let typeDefinition = """
        SELECT CASE t.typtype
          WHEN 'e' THEN format('CREATE TYPE %I.%I AS ENUM (%s)', n.nspname, t.typname,
            (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
          WHEN 'd' THEN format('CREATE DOMAIN %I.%I AS %s%s%s%s', n.nspname, t.typname, format_type(t.typbasetype, t.typtypmod),
            \(collation("t.typcollation", of: "t.typbasetype", " COLLATE ")),
            CASE WHEN t.typdefault IS NULL THEN '' ELSE ' DEFAULT ' || t.typdefault END,
            coalesce((SELECT string_agg(format(' CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), '' ORDER BY conname)
                      FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'), '')
            || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END)
          WHEN 'c' THEN format('CREATE TYPE %I.%I AS (%s)', n.nspname, t.typname,
            (SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod),
                                      \(collation("attcollation", of: "atttypid", " COLLATE "))), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped))
          WHEN 'r' THEN (SELECT format('CREATE TYPE %I.%I AS RANGE (SUBTYPE = %s%s%s, MULTIRANGE_TYPE_NAME = %I.%I)',
              n.nspname, t.typname, format_type(rngsubtype, NULL),
              (SELECT format(', SUBTYPE_OPCLASS = %I.%I', cn.nspname, c.opcname) FROM pg_opclass c
               JOIN pg_namespace cn ON cn.oid = c.opcnamespace WHERE c.oid = rngsubopc AND NOT c.opcdefault),
              \(collation("rngcollation", of: "rngsubtype", ", COLLATION = ")), mn.nspname, m.typname)
            FROM pg_range JOIN pg_type m ON m.oid = rngmultitypid JOIN pg_namespace mn ON mn.oid = m.typnamespace
            WHERE rngtypid = t.oid)
          END AS sql
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = $1::oid
        """

    /// A collation in SQL, after `words`, where it is another than its type's; else nothing.
    private static func collation(_ collation: String, of type: String, _ words: String) -> String {
        """
        (SELECT format('\(words)%I.%I', n.nspname, o.collname) FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
         WHERE o.oid = \(collation) AND o.oid <> (SELECT b.typcollation FROM pg_type b WHERE b.oid = \(type)))
        """
    }

    /// Collations of the source's own that the tables are made with, through their types, indexes and expressions: schema, name, and
    /// the statement that makes each. A locale stands in another column of the catalog in each version.
    static let collations = """
        WITH RECURSIVE \(need),
        part(class, oid) AS (
          SELECT 'pg_class'::regclass, member.oid FROM (\(members)) member
          UNION SELECT 'pg_class'::regclass, i.indexrelid FROM (\(members)) member JOIN pg_index i ON i.indrelid = member.oid
          UNION SELECT 'pg_class'::regclass, t.typrelid FROM need JOIN pg_type t ON t.oid = need.oid WHERE t.typtype = 'c'
          UNION SELECT 'pg_type'::regclass, need.oid FROM need
          UNION SELECT 'pg_attrdef'::regclass, d.oid FROM (\(members)) member JOIN pg_attrdef d ON d.adrelid = member.oid
          UNION SELECT 'pg_constraint'::regclass, c.oid FROM (\(members)) member JOIN pg_constraint c ON c.conrelid = member.oid
          UNION SELECT 'pg_constraint'::regclass, c.oid FROM need JOIN pg_constraint c ON c.contypid = need.oid)
        SELECT DISTINCT n.nspname, o.collname,
               format('CREATE COLLATION %I.%I (PROVIDER = %s, %s%s%s)', n.nspname, o.collname,
                 CASE o.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
                 CASE o.collprovider WHEN 'c' THEN format('LC_COLLATE = %L, LC_CTYPE = %L', o.collcollate, o.collctype)
                   ELSE format('LOCALE = %L', coalesce(
                     version.columns->>'colllocale', version.columns->>'colliculocale', o.collcollate)) END,
                 ', RULES = ' || quote_literal(version.columns->>'collicurules'),
                 CASE WHEN NOT o.collisdeterministic THEN ', DETERMINISTIC = false' END) AS sql
        FROM part JOIN pg_depend d ON d.classid = part.class AND d.objid = part.oid AND d.refclassid = 'pg_collation'::regclass
        JOIN pg_collation o ON o.oid = d.refobjid JOIN pg_namespace n ON n.oid = o.collnamespace
        CROSS JOIN LATERAL to_jsonb(o) AS version(columns)
        WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2
        """

    /// The tables and their partitions.
    private static let members = """
        WITH RECURSIVE member AS (
          SELECT root AS oid, 0 AS depth FROM unnest($1::oid[]) root
          UNION ALL
          SELECT i.inhrelid, member.depth + 1 FROM member JOIN pg_class p ON p.oid = member.oid AND p.relkind = 'p'
            JOIN pg_inherits i ON i.inhparent = member.oid)
        SELECT oid, depth FROM member
        """

    /// Constraints that are not inherited; keys before foreign keys. `columns` are the constrained columns' names.
    static let constraints = """
        SELECT c.conrelid::regclass::text AS table, c.conname AS name, c.contype AS kind,
               pg_get_constraintdef(c.oid) AS definition, c.confrelid::text AS referenced,
               coalesce((SELECT sum(pg_relation_size(member.oid)) FROM
                 (SELECT c.conindid AS oid UNION SELECT relid FROM pg_partition_tree(c.conindid)) member), 0)::bigint::text AS size,
               pg_partition_root(c.conrelid)::regclass::text AS root,
               (SELECT relkind = 'p' FROM pg_class WHERE oid = c.conrelid) AS partitioned,
               ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey))::text AS columns
        FROM pg_constraint c
        JOIN (\(members)) member ON member.oid = c.conrelid
        WHERE c.conparentid = 0 AND c.conislocal AND c.contype IN ('p', 'u', 'x', 'c', 'f')
        ORDER BY CASE c.contype WHEN 'p' THEN 0 WHEN 'u' THEN 1 WHEN 'x' THEN 2 WHEN 'c' THEN 3 ELSE 4 END, member.depth, 1, 2
        """

    /// Indexes that belong to no constraint. A partitioned one is made alone (`ON ONLY`), and then those of the
    /// partitions are attached, so that all keep their names.
    static let indexes = """
        SELECT i.indrelid::regclass::text AS table, ic.relname AS name, n.nspname AS schema, pg_get_indexdef(i.indexrelid) AS definition,
               coalesce((SELECT sum(pg_relation_size(member.oid)) FROM
                 (SELECT i.indexrelid AS oid UNION SELECT relid FROM pg_partition_tree(i.indexrelid)) member), 0)::bigint::text AS size,
               pg_partition_root(i.indrelid)::regclass::text AS root,
               ARRAY(SELECT a.attname FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                     WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                       AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid)::text AS columns
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_namespace n ON n.oid = ic.relnamespace
        JOIN (\(members)) member ON member.oid = i.indrelid
        WHERE i.indisvalid
          AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid)
        ORDER BY member.depth, 1, 2
        """

    /// Indexes of partitions that are part of their parent's index, as ALTER INDEX statements, lowest first.
    static let attachments = """
        SELECT pg_partition_root(i.indrelid)::regclass::text AS root,
               format('ALTER INDEX %s ATTACH PARTITION %s', h.inhparent::regclass, h.inhrelid::regclass) AS sql,
               h.inhparent::regclass::text AS parent, h.inhrelid::regclass::text AS child
        FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid JOIN pg_index p ON p.indexrelid = h.inhparent
        JOIN (\(members)) member ON member.oid = i.indrelid
        WHERE i.indisvalid AND p.indisvalid
          AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid)
        ORDER BY member.depth DESC, 2
        """
}
