import ReplicationCore

/// Writes a `lindero.yaml` from the live tables: it validates at once, and every guess is marked for a person.
///
/// Owners are guessed from column privileges, when they tell the roles apart: a column that one role alone may
/// update is that role's; one that several may update is shared. Everything else goes to the first database for
/// now, with `# decide: who writes this?` beside it.
public struct ConfigurationDraft {
    static let decide = "# decide: who writes this?"

    private struct Side {
        var name: String
        var grants: RoleGrants?
    }

    private let sides: [Side]
    /// How the database was reached, as the file says it.
    private let reference: String
    /// The database that gets what nobody is known to own.
    private var fallback: String { sides[0].name }

    /// - Parameters:
    ///   - tables: as `CatalogReader` describes them; partitions are passed over.
    ///   - databaseName: what the file shall call the database.
    ///   - roles: privileges of the services' login roles; empty when unknown.
    ///   - reference: how the file reaches the database: `env:NAME`, `file:PATH`, `service:NAME`, or a connection
    ///     string without a password.
    public static func write(
        tables: [TableDescription], databaseName: String, roles: [RoleGrants] = [],
        reference: String = "env:DATABASE_URL"
    ) -> String {
        let draft = ConfigurationDraft(
            databaseName: databaseName, tables: tables, roles: roles, reference: YAMLText.reference(reference))
        let listed = tables.filter { !$0.isPartition }.sorted { $0.name < $1.name }
        return draft.header() + draft.tablesSection(listed)
    }

    private init(databaseName: String, tables: [TableDescription], roles: [RoleGrants], reference: String) {
        self.reference = reference
        let telling = Self.rolesThatDiffer(roles, tables: tables)
        guard telling.count > 1 else {
            sides = [Side(name: Self.validName(databaseName, taken: []), grants: nil)]
            return
        }
        var sides: [Side] = []
        for grants in telling {
            let name = Self.validName(Self.serviceName(grants.role), taken: sides.map(\.name))
            sides.append(Side(name: name, grants: grants))
        }
        self.sides = sides
    }

    /// Roles with column privileges that another role lacks; roles that all may write the same tell nothing.
    private static func rolesThatDiffer(_ roles: [RoleGrants], tables: [TableDescription]) -> [RoleGrants] {
        let writing = roles.filter { grants in
            tables.contains { grants.tables[$0.name] != nil }
        }
        let differs = tables.contains { table in
            let sets = Set(writing.map { $0.tables[table.name]?.updatableColumns ?? [] })
            return sets.count > 1
        }
        return differs ? writing.sorted { $0.role < $1.role } : []
    }

    /// `bot_app` is the service `bot`.
    private static func serviceName(_ role: String) -> String {
        for suffix in ["_app", "_service", "_svc", "_user", "_role", "_rw"] where role.hasSuffix(suffix) {
            return String(role.dropLast(suffix.count))
        }
        return role
    }

    private static func validName(_ text: String, taken: [String]) -> String {
        var name = String(
            String.UnicodeScalarView(
                text.unicodeScalars.prefix(28).map {
                    "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || $0 == "_" || $0 == "-" ? $0 : "_"
                }))
        if name.isEmpty { name = "primary" }
        if name == "shared" { name = "shared_db" }
        var candidate = name
        var number = 2
        while taken.contains(candidate) {
            candidate = "\(name)\(number)"
            number += 1
        }
        return candidate
    }

    private func header() -> String {
        var text = """
            # lindero.yaml, written by lindero init --from-database.
            # Look for "decide": those columns have an owner only so that this file is complete.
            # Then: lindero check
            version: 1
            backend: shared
            databases:

            """
        for side in sides {
            text += "  \(YAMLText.word(side.name)): { url: \(reference)"
            if let role = side.grants?.role { text += ", roles: [\(YAMLText.word(role))]" }
            text += " }\n"
        }
        if sides.count == 1 {
            text += "  # add the other service: sync: { url: \(reference), roles: [sync_app] }\n"
        }
        text += "origin: \(YAMLText.word(fallback))\n"
        return text + "defaults: { unlisted_column: error, conflict: queue }\n"
    }

    private func tablesSection(_ tables: [TableDescription]) -> String {
        if tables.isEmpty { return "# The database has no tables yet.\n" }
        var lines = ["tables:"]
        for table in tables {
            lines.append("  \(YAMLText.key(TablePattern.text(for: table.name))):")
            lines += matchLines(table)
            lines += creationLines(table)
            lines += columnLines(table)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func matchLines(_ table: TableDescription) -> [String] {
        let natural = table.uniqueKeys.first { key in
            key.allSatisfy { name in table.column(name).map { $0.isNotNull && !$0.isGenerated } ?? false }
        }
        if !table.primaryKey.isEmpty {
            var line = "    match: \(YAMLText.list(table.primaryKey))"
            let isSurrogate = table.primaryKey.contains { name in
                table.column(name).map { $0.identity != .none || $0.defaultExpression != nil } ?? false
            }
            if isSurrogate, let natural {
                let names = YAMLText.comment(YAMLText.list(natural))
                line += "  # \(names) is unique too, and better if each database makes its own keys"
            }
            return [line]
        }
        if let natural { return ["    match: \(YAMLText.list(natural))  # the table has no primary key"] }
        return ["    # decide: this table has no key, so its rows can't be followed; add a primary key"]
    }

    private func creationLines(_ table: TableDescription) -> [String] {
        guard sides.count > 1 else { return [] }
        var lines: [String] = []
        let inserting = sides.filter { $0.grants?.tables[table.name]?.mayInsert == true }.map(\.name)
        let deleting = sides.filter { $0.grants?.tables[table.name]?.mayDelete == true }.map(\.name)
        if !inserting.isEmpty { lines.append("    insert: \(YAMLText.list(inserting))") }
        if !deleting.isEmpty { lines.append("    delete: \(YAMLText.list(deleting))") }
        return lines
    }

    private func columnLines(_ table: TableDescription) -> [String] {
        var owned: [String: [String]] = [:]
        var shared: [String] = []
        let keys = Set(table.primaryKey)
        let inserting = sides.filter { $0.grants?.tables[table.name]?.mayInsert == true }.map(\.name)
        let keyOwner = inserting.count == 1 ? inserting[0] : fallback
        for column in table.columns where !column.isGenerated {
            let writers = sides.filter {
                $0.grants?.tables[table.name]?.updatableColumns.contains(column.name) == true
            }
            let name = YAMLText.word(column.name)
            switch writers.count {
            case 0:
                let isKey = keys.contains(column.name)
                let comment = "\(isKey ? "# key" : Self.decide) (\(YAMLText.comment(column.type)))"
                owned[isKey ? keyOwner : fallback, default: []].append("        - \(name)  \(comment)")
            case 1:
                owned[writers[0].name, default: []].append("        - \(name)")
            default:
                let who = YAMLText.comment(writers.map(\.name).joined(separator: " and "))
                shared.append("        \(name): { policy: queue }  # decide: \(who) may both write this")
            }
        }
        if owned.isEmpty, shared.isEmpty { return ["    insert: \(YAMLText.word(fallback))  # no columns"] }
        var lines = ["    columns:"]
        for side in sides {
            guard let names = owned[side.name] else { continue }
            lines += ["      \(YAMLText.word(side.name)):"] + names
        }
        if !shared.isEmpty { lines += ["      shared:"] + shared }
        return lines
    }
}
