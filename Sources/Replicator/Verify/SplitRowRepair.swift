import PostgresClient
import ReplicationCore

/// Mends rows of a split, where both databases are written and either may be right.
///
/// What is written makes a row what it is on the other side, at a moment when nothing of it is on its way: each side showed
/// it in one version before it had everything of the other one, and in the same once it is locked where it is written. So the
/// write needs no place in either history; it says so in the log (`SplitNote.mended`), and the other direction leaves it out.
struct SplitRowRepair: Sendable {
    let direction: VerifyDirection
    let policy: OwnershipPolicy?
    /// The database whose values stand where no rule says which.
    let taken: String?
    /// For reading.
    let pair: VerifyPair
    /// For markers and questions about commits.
    let control: VerifyPair
    /// For writing, as the appliers do.
    let writers: VerifyPair

    /// `nil` when it has to be tried again; nothing is changed then.
    func attempt(_ key: VerifyKey, _ sql: VerifySQL) async throws -> RowRepair.Outcome? {
        let outcome: RowRepair.Outcome?
        do {
            outcome = try await look(key, sql)
        } catch {
            try await rollBack()
            throw error
        }
        try await rollBack()
        return outcome
    }

    func rollBack() async throws {
        for side in VerifySide.allCases { try await writers[side].rollback() }
    }

    /// The row on both sides, each as it is once it has all that the other one showed.
    private func look(_ key: VerifyKey, _ sql: VerifySQL) async throws -> RowRepair.Outcome? {
        guard let ownership = policy?.tables[sql.table.name] else { throw VerifyError.notReplicated(sql.table.name) }
        let first = try await pair.target.read(sql, [key], .target)[key]?.reading
        _ = try await arrival(on: .source).pass()
        guard try await HiddenCommits(connection: control.source).settle() else { return nil }
        let source = try await pair.source.read(sql, [key], .source)[key]?.reading
        guard try await HiddenCommits(connection: control.target).settle() else { return nil }
        _ = try await arrival(on: .target).pass()
        let target = try await pair.target.read(sql, [key], .target)[key]?.reading
        guard first?.version == target?.version else { return nil }
        let row = Row(key: key, sql: sql, rules: RepairRules(ownership, direction, taking: taken))
        switch (source, target) {
        case (nil, nil): return .equal
        case (let source?, let target?):
            return source.columns == target.columns ? .equal : try await mendColumns(of: row, source, target)
        case (let source?, nil): return try await mend(row, source, on: .source)
        case (nil, let target?): return try await mend(row, target, on: .target)
        }
    }

    /// What is to be mended.
    private struct Row {
        var key: VerifyKey
        var sql: VerifySQL
        var rules: RepairRules
        var keys: [PostgresParameter] { [key].parameters(sql.table) }
        var columns: [VerifyTable.Column] { sql.table.columns }
    }

    // MARK: columns

    private func mendColumns(of row: Row, _ source: RowReading, _ target: RowReading) async throws -> RowRepair.Outcome? {
        let differing = row.columns.indices.filter { source.columns[$0] != target.columns[$0] }
        let rules = differing.map { row.rules.column(row.columns[$0].name) }
        let written = Set(rules.flatMap(sidesWritten))
        let obstacles = rules.compactMap { if case .undecided(let obstacle) = $0 { obstacle } else { nil } }
        if written.isEmpty { return .undecided(obstacles, mended: []) }
        // What the other side does to the row from now on comes after what is written here, as it always does.
        let versions = [VerifySide.source: source.version, .target: target.version]
        for side in VerifySide.allCases where written.contains(side) {
            guard try await lock(row, side, versions[side] ?? "") else { return nil }
        }
        var values: [VerifySide: PostgresRow] = [:]
        for side in VerifySide.allCases {
            let connection = written.contains(side) ? writers[side] : pair[side]
            let found = try await connection.query(row.sql.values(differing.map { row.columns[$0] }, side), row.keys).rows.first
            guard let found, found[0] == versions[side] else { return nil }
            values[side] = found
        }
        var writes: [VerifySide: [Write]] = [:]
        for (place, index) in differing.enumerated() {
            let column = row.columns[index]
            let both = (source: values[.source]?[place + 1], target: values[.target]?[place + 1])
            let (winner, reason): (VerifySide, String)
            switch rules[place] {
            case .undecided: continue
            case .side(let name, let because): (winner, reason) = (name == direction.source ? .source : .target, because.rawValue)
            case .greater: (winner, reason) = (try await extreme(column, of: row, both, isTargets: { $0 > 0 }), "max")
            case .smaller: (winner, reason) = (try await extreme(column, of: row, both, isTargets: { $0 < 0 }), "min")
            }
            let isSource = winner == .source
            writes[winner.other, default: []].append(
                Write(
                    column: column.name, index: index, reason: reason, kept: isSource ? both.source : both.target,
                    lost: isSource ? both.target : both.source, hash: (isSource ? source : target).columns[index]))
        }
        for side in VerifySide.allCases {
            guard let writes = writes[side] else { continue }
            if let refusal = try await write(writes, to: row, on: side) { return refusal }
        }
        for side in VerifySide.allCases where writes[side] != nil { _ = try await writers[side].execute("COMMIT") }
        return obstacles.isEmpty ? .mended : .undecided(obstacles, mended: writes.values.joined().map(\.column).sorted())
    }

    private func sidesWritten(_ rule: RepairRules.ColumnRule) -> [VerifySide] {
        switch rule {
        case .side(let name, _): [name == direction.source ? .target : .source]
        case .greater, .smaller: VerifySide.allCases
        case .undecided: []
        }
    }

    private struct Write {
        var column: String
        /// Index into the table's compared columns.
        var index: Int
        var reason: String
        var kept: String?
        var lost: String?
        /// Of the value that it shall be.
        var hash: String
    }

    private func write(_ writes: [Write], to row: Row, on side: VerifySide) async throws -> RowRepair.Outcome? {
        try await note(on: side)
        let statement = RepairSQL(table: row.sql.table, side: side).update(writes.map(\.column))
        let result = try await writers[side].query(statement, writes.map { Self.parameter($0.kept) } + row.key.parameters)
        guard result.affectedRows == 1 else { return .busy }
        for (place, write) in writes.enumerated() {
            try await record(row, write.column, write.reason, on: side, kept: write.kept, lost: write.lost, place)
        }
        let now = try await writers[side].read(row.sql, [row.key], side)[row.key]?.reading
        let unlike = writes.filter { now?.columns[$0.index] != $0.hash }.map(\.column)
        return unlike.isEmpty ? nil : .refused(Self.cannotHold(unlike, on: direction.database(side)))
    }

    /// Whose value is the greater or smaller one, by the same rules as the appliers'.
    private func extreme(
        _ column: VerifyTable.Column, of row: Row, _ both: (source: String?, target: String?), isTargets: (Int) -> Bool
    ) async throws -> VerifySide {
        guard let value = both.source else { return .target }
        guard both.target != nil else { return .source }
        let answer = try await writers.target.query(row.sql.compare(column), row.keys + [.text(value)]).firstValue
        let order = answer.flatMap { Int($0) } ?? 0
        // Equal ones that differ in form: the one of the database with the greater name.
        if order == 0 { return direction.source > direction.target ? .source : .target }
        return isTargets(order) ? .target : .source
    }

    // MARK: rows

    private func mend(_ row: Row, _ reading: RowReading, on holder: VerifySide) async throws -> RowRepair.Outcome? {
        switch row.rules.row(on: holder) {
        case .undecided(let obstacle): return .undecided([obstacle], mended: [])
        case .insert(let isWhole): return try await bring(row, reading, from: holder, isWhole: isWhole)
        case .delete: return try await delete(row, reading, on: holder)
        }
    }

    /// Makes the row on the other side. Once its key is held there nobody else can make it; then everything that was done to
    /// it there has to have arrived, and the row is still what it was. Its holder keeps it so until all can see it: an applier
    /// that looks for a row does not wait for one that is being made, and would drop what was done to it.
    private func bring(
        _ row: Row, _ reading: RowReading, from holder: VerifySide, isWhole: Bool
    ) async throws -> RowRepair.Outcome? {
        let side = holder.other
        let found = try await pair[holder].query(row.sql.values(row.columns, holder), row.keys).rows.first
        guard let found, found[0] == reading.version else { return nil }
        let brought = row.columns.indices.filter { row.rules.brings(row.columns[$0].name, from: holder, isWhole: isWhole) }
        var names = brought.map { row.columns[$0].name }
        var values = brought.map { Self.parameter(found[$0 + 1]) }
        for fill in row.rules.fills(beside: Set(names)) {
            names.append(fill.column)
            values.append(.text(fill.value))
        }
        try await begin(on: side)
        try await note(on: side)
        let statement = RepairSQL(table: row.sql.table, side: side).bring(names)
        guard try await writers[side].query(statement, values).affectedRows == 1 else { return nil }
        guard try await hasArrived(on: holder) else { return nil }
        do {
            guard try await lock(row, holder, reading.version) else { return nil }
        } catch let error as PostgresError where error.sqlState?.rawValue == "42501" {
            return .refused("on \(direction.database(holder)), where it has to be held, Lindero's role may UPDATE no column: \(error)")
        }
        // Whatever the end waits for (a trigger, a standby), it comes before the holder's session has been idle for too long.
        _ = try await writers[side].execute("SET LOCAL statement_timeout = '5s'")
        let made = try await writers[side].read(row.sql, [row.key], side)[row.key]?.reading
        let unlike = row.columns.indices.filter { made?.columns[$0] != reading.columns[$0] }
        let distorted = unlike.filter { brought.contains($0) }.map { row.columns[$0].name }
        if !distorted.isEmpty { return .refused(Self.cannotHold(distorted, on: direction.database(side))) }
        let lost = unlike.filter { found[$0 + 1] != nil }.map { row.columns[$0].name }
        if !lost.isEmpty {
            return .undecided(
                [.onlyCopy(lost, owner: direction.database(side), holder: direction.database(holder))], mended: [])
        }
        _ = try await writers[side].execute("COMMIT")
        // Where the side gave its own columns a value, the other one gets that next.
        return unlike.isEmpty ? .mended : nil
    }

    private func delete(_ row: Row, _ reading: RowReading, on holder: VerifySide) async throws -> RowRepair.Outcome? {
        let side = holder.other
        // The other side lacked the row: a delete of its own that is on the way comes first.
        guard try await hasArrived(on: holder), try await lock(row, holder, reading.version) else { return nil }
        guard try await HiddenCommits(connection: control[side], limitMilliseconds: RowRepair.holdMilliseconds).settle(),
            try await pair[side].read(row.sql, [row.key], side).isEmpty
        else { return nil }
        if let referrer = try await referrer(of: row, on: holder) {
            return .undecided([.isReferredTo(by: referrer, on: direction.database(holder))], mended: [])
        }
        let whole = try await writers[holder].query(row.sql.whole(holder), row.keys).firstValue
        try await note(on: holder)
        let statement = RepairSQL(table: row.sql.table, side: holder).delete
        guard try await writers[holder].query(statement, row.key.parameters).affectedRows == 1 else { return nil }
        try await record(row, nil, "delete", on: holder, kept: nil, lost: whole, 0)
        _ = try await writers[holder].execute("COMMIT")
        return .mended
    }

    /// A table with a row that refers to this one. Foreign keys do not act on what is written here.
    private func referrer(of row: Row, on side: VerifySide) async throws -> String? {
        let statements = RepairSQL(table: row.sql.table, side: side)
        for key in try await writers[side].query(RepairSQL.foreignKeys, [.text(row.sql.table.name.sql)]).rows {
            guard let table = key[0], let columns = key[1], let own = key[2] else { continue }
            let found = try await writers[side].query(statements.referring(table, columns, to: own), row.key.parameters)
            if found.rowCount > 0 { return table }
        }
        return nil
    }

    // MARK: steps

    private func begin(on side: VerifySide) async throws {
        // Should this process stand still now, nobody else must.
        _ = try await writers[side].execute(
            "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL idle_in_transaction_session_timeout = '10s'")
    }

    /// Begins, and holds the row in the version that was seen.
    private func lock(_ row: Row, _ side: VerifySide, _ version: String) async throws -> Bool {
        try await begin(on: side)
        return try await writers[side].query(row.sql.lock(side), row.keys).firstValue == version
    }

    private func note(on side: VerifySide) async throws {
        _ = try await writers[side].query(
            "SELECT pg_catalog.pg_logical_emit_message(true, '\(SplitNote.messagePrefix)', $1)",
            [.binary(SplitNote.encode([.mended]))], parameterTypes: [OID.bytea])
    }

    private func record(
        _ row: Row, _ column: String?, _ reason: String, on side: VerifySide, kept: String?, lost: String?, _ place: Int
    ) async throws {
        let (loser, winner) = (direction.database(side), direction.database(side.other))
        let name = row.sql.table.name
        _ = try await writers[side].query(
            RepairSQL.record,
            [
                .text("\(loser)->\(winner)"), .text(name.schema), .text(name.name),
                .text(SQLText.arrayLiteral(row.sql.table.key.map(\.name))), .text(SQLText.arrayLiteral(row.key.values)),
                Self.parameter(column), .text(reason), .text(winner), .text(loser), Self.parameter(kept), Self.parameter(lost),
                .text("\(place)"),
            ])
    }

    private static func parameter(_ value: String?) -> PostgresParameter { value.map { .text($0) } ?? .null }

    private static func cannotHold(_ columns: [String], on database: String) -> String {
        "\(database) does not keep \(columns.joined(separator: ", ")) as it is on the other side: the types differ"
    }

    // MARK: both streams

    /// The wait until a side has what the other one shows.
    private func arrival(on side: VerifySide) -> MarkerWait {
        MarkerWait(
            direction: side == .target ? direction.name : direction.reverseName, source: control[side.other],
            target: control[side])
    }

    /// The same while rows are held: false when that would be too long, even if it gets nearer.
    private func hasArrived(on side: VerifySide) async throws -> Bool {
        let wait = arrival(on: side)
        guard let lsn = try await Marker.position(on: wait.source) else { return false }
        let arrived = LSNWait(place: .direction(wait.direction), target: wait.target)
        let outcome = try await arrived.wait(for: lsn, timeoutMilliseconds: Int(RowRepair.holdMilliseconds)) {
            try await Marker.write(on: wait.source)
        }
        if case .shown = outcome { return true }
        return false
    }
}
