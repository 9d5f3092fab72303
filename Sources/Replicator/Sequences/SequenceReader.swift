import PostgresClient
import ReplicationCore

/// Reads the sequences behind the columns of tables: those of identity columns, and those that a default calls.
///
/// A default that names its sequence by text alone (`nextval('x'::text)`) leaves no trace in the catalog and is not seen.
struct SequenceReader {
    let connection: PostgresConnection
    /// Whether the numbers that rows hold are looked at.
    var readsTables = true
    /// Others are passed over; `nil` for all.
    var wanted: Set<QualifiedName>?

    /// By the column that they are behind. Partitions follow their root.
    func read(_ tables: [QualifiedName]) async throws(PostgresError) -> [SequencePair.Column: SequenceState] {
        if tables.isEmpty { return [:] }
        let rows = try await connection.query(
            Self.columns,
            [.text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name)))]
        ).rows
        let records = try await records()
        var states: [SequencePair.Column: SequenceState] = [:]
        // One sequence may be behind several columns: it is ahead of all of them or of none.
        var used: [QualifiedName: Int64] = [:]
        for row in rows {
            let table = QualifiedName(schema: row["table_schema"] ?? "", name: row["table_name"] ?? "")
            let column = SequencePair.Column(table: table, column: row["column"] ?? "")
            guard var state = state(row), wanted?.contains(state.name) != false else { continue }
            let range = Self.range(ofType: row["type"])
            state.holdsNumbers = range != nil
            state.columnRange = range ?? .min ... .max
            state.record = records[state.name]
            if readsTables, range != nil, let value = try await usedValue(column, ascends: state.settings.increment > 0) {
                let known = used[state.name] ?? value
                used[state.name] = state.settings.increment > 0 ? max(known, value) : min(known, value)
            }
            try await readPosition(of: &state)
            states[column] = state
        }
        return states.mapValues { state in
            var state = state
            state.usedValue = used[state.name]
            return state
        }
    }

    /// Where it stands now.
    func readPosition(of state: inout SequenceState) async throws(PostgresError) {
        let position = try await connection.query("SELECT last_value::text, is_called::text FROM \(state.name.sql)").rows.first
        state.lastValue = position?[0].flatMap { Int64($0) } ?? state.lastValue
        state.isCalled = position?[1] == "true"
    }

    private func state(_ row: PostgresRow) -> SequenceState? {
        func number(_ name: String) -> Int64? { row[name].flatMap { Int64($0) } }
        guard let increment = number("increment"), let minimum = number("minimum"), let maximum = number("maximum"),
            let start = number("start")
        else { return nil }
        var state = SequenceState(
            name: QualifiedName(schema: row["schema"] ?? "", name: row["name"] ?? ""),
            settings: SequenceSettings(increment: increment, minimum: minimum, maximum: maximum, start: start), lastValue: start)
        state.cycles = row["cycles"] == "true"
        return state
    }

    private func usedValue(_ column: SequencePair.Column, ascends: Bool) async throws(PostgresError) -> Int64? {
        let name = SQLText.identifier(column.column)
        return try await connection.query(
            "SELECT \(ascends ? "max" : "min")(\(name))::text FROM \(column.table.sql)"
        ).firstValue.flatMap { Int64($0) }
    }

    func records() async throws(PostgresError) -> [QualifiedName: SequenceState.Record] {
        guard try await exists() else { return [:] }
        let rows = try await connection.query(
            """
            SELECT schema_name, sequence_name, mode, increment::text, minimum::text, maximum::text, start::text
            FROM lindero.sequence_split
            """
        ).rows
        var records: [QualifiedName: SequenceState.Record] = [:]
        for row in rows {
            guard let mode = row[2].flatMap(ReplicationSettings.Sequences.init) else { continue }
            let numbers = (3...6).map { row[$0].flatMap { Int64($0) } ?? 0 }
            records[QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")] = SequenceState.Record(
                before: SequenceSettings(increment: numbers[0], minimum: numbers[1], maximum: numbers[2], start: numbers[3]), mode: mode)
        }
        return records
    }

    func exists() async throws(PostgresError) -> Bool {
        try await connection.hasLindero("sequence_split")
    }

    /// What a column of the type can hold; `nil` when it does not hold the bare number.
    private static func range(ofType oid: String?) -> ClosedRange<Int64>? {
        switch oid {
        case "21": Int64(Int16.min)...Int64(Int16.max)
        case "23": Int64(Int32.min)...Int64(Int32.max)
        case "20": .min ... .max
        default: nil
        }
    }

    /// `$1`, `$2`: schemas and names of tables.
    private static let columns = """
        SELECT tn.nspname AS table_schema, t.relname AS table_name, a.attname AS column, a.atttypid::text AS type,
               sn.nspname AS schema, s.relname AS name, q.seqincrement::text AS increment, q.seqmin::text AS minimum,
               q.seqmax::text AS maximum, q.seqstart::text AS start, q.seqcycle::text AS cycles
        FROM unnest($1::text[], $2::text[]) AS wanted(schema, name)
             JOIN pg_catalog.pg_namespace tn ON tn.nspname = wanted.schema
             JOIN pg_catalog.pg_class t ON t.relnamespace = tn.oid AND t.relname = wanted.name
             JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
             LEFT JOIN pg_catalog.pg_attrdef ad ON ad.adrelid = t.oid AND ad.adnum = a.attnum AND a.attgenerated = ''
             CROSS JOIN LATERAL (
                 SELECT d.objid AS oid FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'i'
                   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                   AND d.refobjid = t.oid AND d.refobjsubid = a.attnum
                 UNION
                 SELECT d.refobjid FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = ad.oid
                   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) behind
             JOIN pg_catalog.pg_class s ON s.oid = behind.oid AND s.relkind = 'S'
             JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
             JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
        ORDER BY 1, 2, a.attnum
        """
}
