import ReplicationCore

/// Judges a slot and a publication that exist already and are to be adopted.
struct AdoptionChecks {
    let source: String
    let target: String
    let facts: ServerFacts
    let configuration: LinderoConfiguration
    let policy: OwnershipPolicy
    let tables: [TableDescription]

    func findings() -> [PreflightFinding] {
        slot() + publication()
    }

    private func slot() -> [PreflightFinding] {
        guard let name = configuration.replication.slot else { return [] }
        guard let slot = facts.slot(name) else {
            let nearest =
                NearestWord.among(facts.slots.map(\.name), to: name).map { "; the nearest is \($0)" } ?? ""
            return [
                finding(
                    .slotMissing, object: name, "replication slot \(name) does not exist\(nearest)",
                    fix:
                        "correct replication.slot; or remove it, and Lindero makes a slot and copies the tables"
                )
            ]
        }
        if slot.isLost {
            return [
                finding(
                    .slotInvalidated, object: name,
                    "replication slot \(name) was invalidated: WAL that it needed is gone",
                    fix:
                        "SELECT pg_drop_replication_slot(\(SQLText.literal(name))); and copy the tables anew "
                        + "(remove replication.slot and snapshot: never)")
            ]
        }
        guard slot.plugin == "pgoutput" else {
            return [
                finding(
                    .slotPlugin, object: name,
                    "replication slot \(name) is for \(slot.plugin ?? "physical replication"), not pgoutput",
                    fix: "name a slot made with pg_create_logical_replication_slot('NAME', 'pgoutput')")
            ]
        }
        guard slot.database == facts.database else {
            return [
                finding(
                    .slotDatabase, object: name,
                    "replication slot \(name) belongs to database \(slot.database ?? "?"), and \(source) is "
                        + "\(facts.database)",
                    fix:
                        "point databases.\(source).url at database \(slot.database ?? "?"), or name another slot"
                )
            ]
        }
        if slot.isTwoPhase, !configuration.replication.twoPhase {
            return [
                finding(
                    .slotTwoPhase, object: name,
                    "replication slot \(name) sends transactions when they are prepared, and lindero.yaml does not ask for that",
                    fix:
                        "set two_phase: true under replication; or adopt a slot that was made without it")
            ]
        }
        guard slot.isActive else { return [] }
        if slot.holder?.hasPrefix("lindero") == true {
            return [
                PreflightFinding(
                    .note, .slotActive, database: source, object: name,
                    "a Lindero worker reads slot \(name) now")
            ]
        }
        return [
            finding(
                .slotActive, object: name,
                "replication slot \(name) is read by \(slot.holder.map { $0.isEmpty ? "another program" : $0 } ?? "another program") now",
                fix: "stop that program first; Lindero never takes a slot away")
        ]
    }

    private func publication() -> [PreflightFinding] {
        guard let name = configuration.replication.publication else { return [] }
        let sqlName = SQLText.identifier(name)
        guard let publication = facts.publication(name) else {
            let list = tables.map(\.name.sql).joined(separator: ", ")
            let create =
                "CREATE PUBLICATION \(sqlName) FOR TABLE \(list) WITH (publish_via_partition_root = true);"
            return [
                finding(
                    .publicationMissing, object: name, "publication \(name) does not exist",
                    fix: tables.isEmpty ? "correct replication.publication" : create)
            ]
        }
        var findings: [PreflightFinding] = []
        if !publication.missingOperations.isEmpty {
            findings.append(
                PreflightFinding(
                    .warning, .publicationOperations, database: source, object: name,
                    "publication \(name) leaves out \(publication.missingOperations.joined(separator: ", ")): the "
                        + "target will differ after those",
                    fix: "ALTER PUBLICATION \(sqlName) SET (publish = 'insert, update, delete, truncate');"))
        }
        let throughRoot = tables.filter { $0.kind == .partitioned }
        if !publication.publishesThroughRoot, let root = throughRoot.first {
            return findings + [
                finding(
                    .publicationRoot, object: name,
                    "publication \(name) sends changes of partitioned table \(root.name) under its partitions' names",
                    fix: "ALTER PUBLICATION \(sqlName) SET (publish_via_partition_root = true);")
            ]
        }
        return findings + tables.flatMap { covered($0, by: publication) }
    }

    private func covered(_ table: TableDescription, by publication: ServerFacts.Publication)
        -> [PreflightFinding]
    {
        let sqlName = SQLText.identifier(publication.name)
        guard let published = publication.tables[table.name] else {
            return [
                finding(
                    .publicationTable, object: table.name.description,
                    "publication \(publication.name) lacks table \(table.name)",
                    fix: "ALTER PUBLICATION \(sqlName) ADD TABLE \(table.name.sql);")
            ]
        }
        var findings: [PreflightFinding] = []
        if published.hasRowFilter, configuration.replication.snapshot == .initial {
            findings.append(
                finding(
                    .publicationFilter, object: table.name.description,
                    "publication \(publication.name) filters the rows of \(table.name), and the copy would hold them all",
                    fix: "remove replication.publication, and Lindero makes one of its own; or adopt its slot with "
                        + "replication: { snapshot: never, slot: … }"))
        } else if published.hasRowFilter {
            findings.append(
                PreflightFinding(
                    .warning, .publicationFilter, database: source, object: table.name.description,
                    "publication \(publication.name) filters the rows of \(table.name): the target holds those only",
                    fix: "ALTER PUBLICATION \(sqlName) SET TABLE … without WHERE, if all rows are wanted there"))
        }
        if let columns = published.columns, let ownership = policy.tables[table.name] {
            let missing = table.columns.map(\.name).filter { column in
                !columns.contains(column)
                    && ownership.travels(column, from: source, to: target, backend: configuration.backend)
            }
            if !missing.isEmpty {
                findings.append(
                    finding(
                        .publicationColumns, object: table.name.description,
                        "publication \(publication.name) lacks \(SQLText.list(missing)) of \(table.name)",
                        fix:
                            "ALTER PUBLICATION \(sqlName) DROP TABLE \(table.name.sql); ALTER PUBLICATION \(sqlName) "
                            + "ADD TABLE \(table.name.sql) (\(SQLText.list(columns.sorted() + missing)));"))
            }
        }
        return findings
    }

    private func finding(
        _ code: PreflightFinding.Code, object: String, _ message: String, fix: String
    ) -> PreflightFinding {
        let severity: PreflightFinding.Severity = configuration.backend == .shared ? .warning : .blocker
        return PreflightFinding(severity, code, database: source, object: object, message, fix: fix)
    }
}
