import PostgresClient
import ReplicationCore

/// The SQL that makes the source's tables on an empty target, in the order it has to run.
struct SourceSchema: Sendable {
    /// Schemas, extensions, types, sequences, tables with their partitions: what the copy needs.
    var beforeCopy: [String] = []
    /// Keys, constraints, indexes, sequence owners: faster, and sometimes only possible, with the data.
    var afterCopy: [SchemaStep] = []
    /// They hold once every table shows the same moment.
    var foreignKeys: [ForeignKey] = []
    /// What was left out, for people.
    var notes: [String] = []

    /// - Parameters:
    ///   - tables: tables that the target lacks.
    ///   - known: every table of the direction; foreign keys to others are left out.
    ///   - keeps: whether the target gets a column.
    ///   - travels: whether the column is ever written there; one that is not must not be required.
    static func read(
        _ source: PostgresConnection, tables: [TableDescription], known: [TableDescription],
        keeps: (QualifiedName, String) -> Bool, travels: (QualifiedName, String) -> Bool
    ) async throws -> SourceSchema {
        var schema = SourceSchema()
        guard !tables.isEmpty else { return schema }
        let oids = PostgresParameter.text("{" + tables.map { "\($0.oid)" }.joined(separator: ",") + "}")
        let tree = try await source.query(SchemaSQL.tables, [oids]).rows
        for name in Set(tree.compactMap { $0["nspname"] }).sorted() where name != "public" {
            schema.beforeCopy.append("CREATE SCHEMA IF NOT EXISTS \(SQLText.identifier(name))")
        }
        try await schema.addCollations(source, oids)
        try await schema.addTypes(source, oids)
        for row in try await source.query(SchemaSQL.sequences, [oids]).rows { schema.beforeCopy += [row["sql"] ?? ""] }
        let columns = Dictionary(grouping: try await source.query(SchemaSQL.columns, [oids]).rows) { $0["table"] ?? "" }
        for row in tree { schema.addTable(row, columns, keeps, travels) }
        try await schema.addConstraints(source, oids, known: Set(known.map { "\($0.oid)" }), keeps)
        try await schema.addIndexes(source, oids, keeps)
        try await schema.addAttachments(source, oids)
        for row in try await source.query(SchemaSQL.sequenceOwners, [oids]).rows {
            schema.afterCopy.append(SchemaStep(stage: .owner, table: "", sql: row["sql"] ?? ""))
        }
        // Whoever reads the target, the applier included, is to find good plans at once.
        for table in tables {
            schema.afterCopy.append(
                SchemaStep(stage: .statistics, table: table.name.sql, sql: "ANALYZE \(table.name.sql)"))
        }
        return schema
    }

    private mutating func addCollations(_ source: PostgresConnection, _ oids: PostgresParameter) async throws {
        for row in try await source.query(SchemaSQL.collations, [oids]).rows {
            guard let schema = row["nspname"], let name = row["collname"], let sql = row["sql"] else { continue }
            if schema != "public" { beforeCopy.append("CREATE SCHEMA IF NOT EXISTS \(SQLText.identifier(schema))") }
            let collation = QualifiedName(schema: schema, name: name)
            beforeCopy.append(Self.unless("pg_catalog.to_regcollation(\(SQLText.literal(collation.sql))) IS NOT NULL", sql))
        }
    }

    private mutating func addTypes(_ source: PostgresConnection, _ oids: PostgresParameter) async throws {
        for row in try await source.query(SchemaSQL.types, [oids]).rows {
            if let name = row["nspname"], name != "public" {
                beforeCopy.append("CREATE SCHEMA IF NOT EXISTS \(SQLText.identifier(name))")
            }
            if let name = row["extname"] {
                let place = row["extension_schema"].map { " WITH SCHEMA \(SQLText.identifier($0))" } ?? ""
                let sql = "CREATE EXTENSION IF NOT EXISTS \(SQLText.identifier(name))\(place)"
                if !beforeCopy.contains(sql) { beforeCopy.append(sql) }
            } else if let oid = row["oid"], let schema = row["nspname"], let name = row["typname"],
                let sql = try await source.query(SchemaSQL.typeDefinition, [.text(oid)]).rows.first?["sql"]
            {
                let type = QualifiedName(schema: schema, name: name)
                beforeCopy.append(Self.unless("pg_catalog.to_regtype(\(SQLText.literal(type.sql))) IS NOT NULL", sql))
            }
        }
    }

    private mutating func addTable(
        _ row: PostgresRow, _ columns: [String: [PostgresRow]], _ keeps: (QualifiedName, String) -> Bool,
        _ travels: (QualifiedName, String) -> Bool
    ) {
        let name = QualifiedName(schema: row["nspname"] ?? "", name: row["relname"] ?? "")
        let partitioning = row["partition_key"].map { " PARTITION BY \($0)" } ?? ""
        if let parent = row["parent_name"], let bound = row["bound"] {
            let root = QualifiedName(schema: row["parent_schema"] ?? "", name: parent)
            return beforeCopy.append(
                "CREATE TABLE IF NOT EXISTS \(name.sql) PARTITION OF \(root.sql) \(bound)\(partitioning)")
        }
        let definitions = (columns[row["oid"] ?? ""] ?? []).compactMap { column -> String? in
            guard let columnName = column["name"], keeps(name, columnName) else { return nil }
            if column["identity"] == "a" {
                notes.append("Column \(name).\(columnName) is GENERATED BY DEFAULT AS IDENTITY here: ALWAYS would refuse updates.")
            }
            return Self.definition(column, isWritten: travels(name, columnName))
        }
        beforeCopy.append(
            "CREATE TABLE IF NOT EXISTS \(name.sql) (\(definitions.joined(separator: ", ")))\(partitioning)")
    }

    private static func definition(_ column: PostgresRow, isWritten: Bool) -> String {
        var text = "\(SQLText.identifier(column["name"] ?? "")) \(column["type"] ?? "")"
        if let collation = column["collation"] { text += " COLLATE \(collation)" }
        let expression = column["expression"]
        // What is computed when it is read (PostgreSQL 18) is computed when it is written here: the values are the same.
        if ["s", "v"].contains(column["generated"]), let expression {
            return text + " GENERATED ALWAYS AS (\(expression)) STORED"
        }
        switch column["identity"] {
        // Where it is ALWAYS, no update that comes from the source could name it.
        case "a", "d": text += " GENERATED BY DEFAULT AS IDENTITY"
        default: if let expression { text += " DEFAULT \(expression)" }
        }
        // A column that the stream never fills cannot be required.
        if column["not_null"] == "true", isWritten || expression != nil { text += " NOT NULL" }
        return text
    }

    private mutating func addConstraints(
        _ source: PostgresConnection, _ oids: PostgresParameter, known: Set<String>,
        _ keeps: (QualifiedName, String) -> Bool
    ) async throws {
        for row in try await source.query(SchemaSQL.constraints, [oids]).rows {
            guard let table = row["table"], let name = row["name"], let definition = row["definition"] else { continue }
            if row["kind"] == "f", let referenced = row["referenced"], !known.contains(referenced) {
                notes.append("Foreign key \(name) of \(table) points out of the replicated tables and was left out.")
                continue
            }
            guard holds(row["columns"], row["root"] ?? table, keeps) else {
                notes.append("Constraint \(name) of \(table) uses a column that stays behind and was left out.")
                continue
            }
            if row["kind"] == "f" {
                foreignKeys.append(
                    ForeignKey(
                        table: table, root: row["root"] ?? table, name: name, definition: definition,
                        isPartitioned: row["partitioned"] == "t"))
                continue
            }
            afterCopy.append(
                Self.step(
                    .key, row, unless:
                    "EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = \(SQLText.literal(table))::pg_catalog.regclass "
                        + "AND conname = \(SQLText.literal(name)))",
                    "ALTER TABLE \(table) ADD CONSTRAINT \(SQLText.identifier(name)) \(definition)"))
        }
    }

    private mutating func addIndexes(
        _ source: PostgresConnection, _ oids: PostgresParameter, _ keeps: (QualifiedName, String) -> Bool
    ) async throws {
        for row in try await source.query(SchemaSQL.indexes, [oids]).rows {
            guard let table = row["table"], let schema = row["schema"], let name = row["name"],
                let definition = row["definition"]
            else { continue }
            guard holds(row["columns"], row["root"] ?? table, keeps) else {
                notes.append("Index \(name) of \(table) uses a column that stays behind and was left out.")
                continue
            }
            let index = QualifiedName(schema: schema, name: name)
            afterCopy.append(
                Self.step(
                    .index, row, unless: "pg_catalog.to_regclass(\(SQLText.literal(index.sql))) IS NOT NULL", definition))
        }
    }

    /// Whether every column of an array literal is on the target.
    private func holds(_ columns: String?, _ table: String, _ keeps: (QualifiedName, String) -> Bool) -> Bool {
        guard let name = QualifiedName(regclass: table) else { return false }
        return SQLText.elements(ofArray: columns ?? "{}").allSatisfy { keeps(name, $0) }
    }

    /// Attaches what could be made, in the order it has to be.
    private mutating func addAttachments(_ source: PostgresConnection, _ oids: PostgresParameter) async throws {
        for row in try await source.query(SchemaSQL.attachments, [oids]).rows {
            guard let sql = row["sql"], let parent = row["parent"], let child = row["child"] else { continue }
            let areThere = [parent, child].map { "pg_catalog.to_regclass(\(SQLText.literal($0))) IS NOT NULL" }
            afterCopy.append(
                SchemaStep(
                    stage: .attachment, table: row["root"] ?? "",
                    sql: Self.unless("NOT (\(areThere.joined(separator: " AND ")))", sql)))
        }
    }

    private static func step(
        _ stage: SchemaStep.Stage, _ row: PostgresRow, unless condition: String, _ sql: String
    ) -> SchemaStep {
        SchemaStep(
            stage: stage, table: row["root"] ?? row["table"] ?? "", sql: unless(condition, sql),
            sizeBytes: row["size"].flatMap { Int($0) } ?? 0)
    }

    /// A statement that is skipped when its object is there already: the whole script can run again after a crash.
    static func unless(_ condition: String, _ sql: String) -> String {
        "DO $lindero$ BEGIN IF NOT (\(condition)) THEN EXECUTE \(SQLText.literal(sql)); END IF; END $lindero$"
    }
}
