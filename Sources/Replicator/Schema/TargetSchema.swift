import PostgresClient
import ReplicationCore

/// Makes the target's tables fit the direction: creates what is absent, checks what is present.
struct TargetSchema {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection
    let tables: [TableDescription]
    /// Every table of the direction, for foreign keys.
    let known: [TableDescription]
    /// Whether some of them were made by a copy that goes on: what was altered since is waited for, as while it streams.
    var isResumed = false

    /// Creates missing tables and checks the others.
    ///
    /// - Parameter willCreate: told the tables before the first is created.
    /// - Returns: what was created, and what was left out.
    /// - Throws: `ReplicationFailure` that lists every table that does not fit, with the SQL that mends it; `ApplyError.schemaDiffers` for the
    ///   first of them where the copy goes on.
    func prepare(willCreate: ([QualifiedName]) async throws -> Void) async throws -> SourceSchema {
        let present = try await CatalogReader.tables(target, matching: tables.map(\.name))
        let names = Set(present.map(\.name))
        try check(present, try await EnumLabels.missing(tables, source: source, target: target, travels: settings.travels))
        let missing = tables.filter { !names.contains($0.name) }
        if !missing.isEmpty { try await willCreate(missing.map(\.name)) }
        let settings = settings
        let schema = try await SourceSchema.read(
            source, tables: missing, known: known,
            keeps: { !settings.replication.omitForeignColumns || settings.travels($0, $1) },
            travels: { settings.travels($0, $1) })
        let statements = schema.beforeCopy.filter { !$0.isEmpty }
        if statements.isEmpty { return schema }
        try await make(statements)
        // A type that was there already may be another than the source's.
        try check(try await CatalogReader.tables(target, matching: missing.map(\.name)), [])
        return schema
    }

    /// All or nothing: a table that is there is taken for whole the next time, with its partitions.
    private func make(_ statements: [String]) async throws {
        try await target.inTransaction {
            for statement in statements {
                do {
                    _ = try await target.execute(statement)
                } catch {
                    throw ReplicationFailure(
                        .schemaDiffers, "The target's schema could not be made: \(error). The statement was: \(statement)",
                        nextStep: "Make it by hand (for example with pg_dump --schema-only) and start again.",
                        isBlocker: true)
                }
            }
        }
    }

    private func check(_ present: [TableDescription], _ lacks: [EnumLabels.Lack]) throws {
        var mismatches = lacks.map { lack in
            "\(SchemaMismatch(table: lack.table, problems: [.missingLabels(lack.missing)])) Run on \(settings.targetName): "
                + lack.missing.sql + lack.missing.doubt
        }
        for table in present {
            guard let original = tables.first(where: { $0.name == table.name }) else { continue }
            let problems = Self.problems(original: original, present: table) { settings.travels(table.name, $0) }
            guard !problems.isEmpty else { continue }
            if isResumed { throw ApplyError.schemaDiffers(SchemaMismatch(table: table.name, problems: problems)) }
            let sql = problems.map { MendingSQL.statement(for: $0, table: table.name, source: original) }
            mismatches.append(
                "\(SchemaMismatch(table: table.name, problems: problems)) Run on \(settings.targetName): "
                    + sql.joined(separator: " "))
        }
        guard mismatches.isEmpty else {
            throw ReplicationFailure(
                .schemaDiffers, mismatches.joined(separator: "\n"),
                nextStep: "Run the SQL above, then start again.", isBlocker: true)
        }
    }

    static func problems(
        original: TableDescription, present: TableDescription, travels: (String) -> Bool
    ) -> [SchemaMismatch.Problem] {
        original.columns.compactMap { column in
            guard travels(column.name), !column.isGenerated else { return nil }
            guard let same = present.column(column.name) else { return .missingColumn(column.name) }
            guard !same.isGenerated else { return nil }
            if present.refusesUpdates(of: column.name, key: original.rowKey(on: present)) { return .identityAlways(column.name) }
            if let difference = TypeDifference.between(column, same) { return .definitionDiffers(column.name, difference) }
            let isUserType = column.baseTypeOID >= TypeCompatibility.firstUserOID
            let fits =
                isUserType ? same.type == column.type : TypeCompatibility.fits(sourceOID: column.baseTypeOID, target: same)
            let narrowing = TypeNarrowing.of(source: column.baseTypeOID, modifier: column.baseModifier, target: same)
            return fits && narrowing != .alters ? nil : .typeDiffers(column.name, targetType: same.type)
        }
    }
}
