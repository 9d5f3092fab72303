import PostgresClient
import ReplicationCore

/// How a group becomes statements.
struct BulkLimits: Sendable {
    /// A group of no more changes than this goes to the target and commits in one round trip.
    var guardedChanges = 32
    /// Whether a combination of tables becomes one statement the first time it comes: preparing it costs more than it saves once.
    var fusesAtOnce = false
    /// Inserts from this many on are copied: a COPY takes round trips of its own.
    var copiedRows = 200
    /// About what one statement's arrays may take: libpq and the server handle what fits their caches faster.
    var statementBytes = 256 << 10
    /// What one statement's rows may never pass, however large the group: the server refuses a message of 1 GB.
    var mostBytes = 64 << 20
    /// A row from this size on is encoded when it is sent, so that a group does not hold it twice.
    var heldRowBytes = 16 << 10
    /// A row from this size on is encoded before: what is too large to be sent is then refused before anything is.
    var doubtfulRowBytes = 256 << 20
}

/// Turns changes and plans into the steps of a pipeline.
///
/// A value: a task prepares the next group with its copy while the last one is applied, and hands the copy back.
struct StepBuilder: Sendable {
    let limits: BulkLimits
    let fuses: Bool
    var plans: PlanCache
    /// What is prepared on each of the target's two sessions.
    private var caches = [StatementCache(), StatementCache()]
    /// The session that statements are made for.
    var session = ApplySession.home
    var counters = ApplyCounters()

    /// - Parameter fuses: whether small transactions become statements that write the progress, too: only for who gives it to them.
    init(plans: PlanCache, fuses: Bool, limits: BulkLimits = BulkLimits()) {
        self.plans = plans
        self.fuses = fuses
        self.limits = limits
    }

    var statements: StatementCache {
        get { caches[session.rawValue] }
        // In place: a copy to be written to would be one of all its names, for each row that goes alone.
        _modify { yield &caches[session.rawValue] }
    }

    /// Whether statements still exist.
    func holds(_ statements: PreparedGroup.Statements?) -> Bool {
        statements.map { caches[$0.session.rawValue].generation == $0.generation } ?? false
    }

    /// Forgets what was prepared on both sessions.
    mutating func forgetStatements() {
        for index in caches.indices { caches[index].forget() }
    }

    /// Plans and encodes a group whose definitions all have plans.
    ///
    /// - Parameters:
    ///   - skipUpTo: transactions that ended at or before it are on the target already.
    ///   - neighbour: what the group before touches, where this one may begin beside it; its rows are noted then, too.
    mutating func prepare(_ chunks: [ChangeChunk], skipUpTo: LSN, beside neighbour: GroupFootprint? = nil) -> PreparedGroup {
        let before = counters
        defer { counters = before }
        var batch = StepBatch()
        if let done = fuse(chunks, skipUpTo: skipUpTo, into: &batch) {
            return PreparedGroup(
                chunks: chunks, work: [.statements(batch)], counters: done, firesTriggers: false, statements: statementsInUse)
        }
        let plan = GroupPlanner.plan(chunks, skipUpTo: skipUpTo, beside: neighbour) { [plans] in plans.plan($0) }
        let isSmall = plan.changeCount <= limits.guardedChanges
        // Only what goes in one round trip with its commit makes a difference of it.
        let firesTriggers =
            !isSmall || chunks.contains { $0.usedDefinitions.contains { plans.plan($0)?.firesTriggers ?? false } }
        let free = plan.free.isEmpty ? [] : work(plan.free, of: plan, chunks, isSmall: isSmall, &batch) + batch.takeWork()
        var work = work(plan.steps, of: plan, chunks, isSmall: isSmall, &batch)
        if work.isEmpty, free.isEmpty {
            addShapeCheck(of: plan.definitions, to: &batch)
            work = batch.takeWork()
        } else {
            work += batch.takeWork()
            addShapeCheck(of: plan.definitions, to: &batch)
            if !batch.isEmpty { work.append(.check(batch)) }
        }
        var done = ApplyCounters()
        done.changes = plan.changeCount
        done.ignored = plan.ignoredCount
        done.withheld = plan.withheldCount
        done.transactions = chunks.reduce(0) { $0 + $1.transactions.count(where: \.isCommitted) }
        return PreparedGroup(
            chunks: chunks, free: free, work: work, footprint: plan.footprint, counters: done, firesTriggers: firesTriggers,
            statements: statementsInUse)
    }

    /// The same; `nil` where a definition has no plan yet.
    mutating func preparePlanned(_ chunks: [ChangeChunk], skipUpTo: LSN) -> PreparedGroup? {
        for index in chunks.indices where !plans.hasAll(of: chunks[index].changes, chunks[index].truncations) { return nil }
        return prepare(chunks, skipUpTo: skipUpTo)
    }

    private var statementsInUse: PreparedGroup.Statements {
        PreparedGroup.Statements(session: session, generation: statements.generation)
    }

    /// Steps as statements and copies; what is not yet a round trip's worth is left in the batch.
    private mutating func work(
        _ steps: [GroupPlan.Step], of plan: GroupPlan, _ chunks: [ChangeChunk], isSmall: Bool, _ batch: inout StepBatch
    ) -> [GroupWork] {
        var work: [GroupWork] = []
        for step in steps {
            switch step {
            case .bulk(let statement):
                if let copy = copy(statement, of: plan, chunks: chunks) {
                    work += batch.takeWork() + [.copy(copy)]
                } else if isSmall, statement.rows.count == 1 {
                    addSingle(statement, of: plan, chunks: chunks, to: &batch)
                } else {
                    add(statement, of: plan, chunks: chunks, isGuarded: isSmall, to: &batch)
                }
            case .row(let chunk, let change, let span):
                add(change, in: chunks[chunk].transactions[span], chunk: chunks[chunk], to: &batch)
            }
            if batch.isFull { work += batch.takeWork() }
        }
        return work
    }

    /// Asks whether the tables of a plan still are what they were when it was made.
    private mutating func addShapeCheck(of definitions: [Int], to batch: inout StepBatch) {
        let shapes = Set(definitions.compactMap { plans.shape($0) })
        if shapes.isEmpty { return }
        let name = statements.nameOfShapeCheck(batch: &batch)
        batch.addCheck(name, TargetShape.parameters(shapes.sorted { $0.oid < $1.oid }))
    }

    /// A group made as ready as it can be without asking the target, and the builder afterwards.
    func preparingAhead(
        _ chunks: [ChangeChunk], skipUpTo: LSN, isBulk: Bool, beside neighbour: GroupFootprint? = nil
    ) -> (PreparedGroup, StepBuilder) {
        guard isBulk, chunks.allSatisfy({ plans.hasAll($0.usedDefinitions) }) else {
            return (PreparedGroup(chunks: chunks), self)
        }
        // What goes in one round trip with its commit begins with it.
        let isSmall = chunks.reduce(0) { $0 + $1.changes.count } <= limits.guardedChanges
        let neighbour = isSmall ? nil : neighbour
        var builder = self
        let group = builder.prepare(chunks, skipUpTo: skipUpTo, beside: neighbour)
        return (group, builder)
    }

    /// Adds one change in exact form.
    ///
    /// - Parameter index: of the change in the chunk.
    mutating func add(_ index: Int, in span: TransactionSpan, chunk: ChangeChunk, to batch: inout StepBatch) {
        let change = chunk.changes[index]
        let position = span.position(of: index)
        if change.kind == .truncate {
            return addTruncation(chunk.truncations[change.relation], span, position, &batch)
        }
        guard let plan = plans.plan(change.relation) else {
            counters.ignored += 1
            return
        }
        if span.commitLSN < plan.copiedUpTo { return }
        switch RowChange.resolve(change, plan: plan, arena: chunk.arena) {
        case .withheld:
            counters.withheld += 1
        case .apply(let row):
            let name = statements.name(for: row.shape, definition: change.relation, plan: plan, batch: &batch)
            var sizeBytes = 64
            let parameters = row.cells.map { cell in
                sizeBytes += Int(chunk.arena.cells[cell].length)
                return chunk.arena.parameter(cell)
            }
            batch.add(
                .execute(name: name, parameters: parameters, binaryResult: false), sizeBytes: sizeBytes,
                rows: change.kind == .insert && !plan.firesTriggers ? nil : 1,
                change: FailedChange(table: plan.table, kind: change.kind, span: span, position: position))
            counters.changes += 1
        }
    }

    /// - Throws: `ApplyError.incompleteRow` for an insert that lacks a value of a column that travels; `StreamError` for a change
    ///   whose plan nobody has made: `add` would take its table for one that is not part of the direction.
    func requireWhole(_ index: Int, in span: TransactionSpan, chunk: ChangeChunk) throws {
        let change = chunk.changes[index]
        guard plans.hasAll(chunk.definitions(of: change)) else {
            throw StreamError.unexpected("a change of a definition that has no plan")
        }
        guard change.kind == .insert, change.new.hasUnchanged, let plan = plans.plan(change.relation),
            span.commitLSN >= plan.copiedUpTo,
            plan.columns.contains(where: { chunk.arena.cells[change.new.firstCell + $0.sourceIndex].kind == .unchanged })
        else { return }
        throw ApplyError.incompleteRow(
            FailedChange(table: plan.table, kind: .insert, span: span, position: span.position(of: index)))
    }

    /// Adds statements for many rows.
    private mutating func add(
        _ statement: BulkStatement, of group: GroupPlan, chunks: [ChangeChunk], isGuarded: Bool,
        to batch: inout StepBatch
    ) {
        guard let plan = plans.plan(statement.shape.definition) else { return }
        let isInsert = statement.shape.kind == .insert
        let columns = (statement.shape.written + (isInsert ? [] : plan.keyColumns)).map { plan.columns[$0] }
        var shape = statement.shape
        shape.isGuarded = isGuarded && !isInsert
        let name = statements.name(for: shape, plan: plan, batch: &batch)
        var rest = statement.rows[...]
        while !rest.isEmpty {
            let rows = rest.prefix(rowsPerStatement(rest, columns, group, chunks))
            rest = rest.dropFirst(rows.count)
            let sizeBytes = rows.count == 1 ? self.sizeBytes(of: rows, columns, group, chunks) : 0
            let arrays = RowArrays(
                encoder: ArrayEncoder(columns: columns, rows: rows, plan: group, chunks: chunks),
                isCounted: shape.isGuarded,
                approximateBytes: max(sizeBytes + 32 * (columns.count + 1), min(limits.statementBytes, 64 * rows.count * columns.count)))
            let step = step(name, arrays, isEncodedNow: sizeBytes >= limits.doubtfulRowBytes)
            // A trigger may swallow a row, and nothing else tells.
            let isCounted = isInsert ? plan.firesTriggers : !shape.isGuarded
            batch.add(step, sizeBytes: 64, rows: isCounted ? rows.count : nil, change: nil)
        }
    }

    /// Adds a statement for one row, which the server runs faster without arrays.
    private mutating func addSingle(
        _ statement: BulkStatement, of group: GroupPlan, chunks: [ChangeChunk], to batch: inout StepBatch
    ) {
        guard let plan = plans.plan(statement.shape.definition) else { return }
        let shape = RowStatement.Shape(one: statement.shape, plan: plan)
        let name = statements.name(for: shape, definition: statement.shape.definition, plan: plan, batch: &batch)
        let cells = (shape.written + shape.compared).map {
            group.location(statement.rows[0], sourceIndex: plan.columns[$0].sourceIndex)
        }
        let sizeBytes = cells.reduce(0) { $0 + 4 + Int(chunks[Int($1.chunk)].arena.cells[$1.cell].length) }
        let isEncodedNow = sizeBytes < limits.heldRowBytes || sizeBytes >= limits.doubtfulRowBytes
        let row = RowCells(cells: cells, chunks: chunks, approximateBytes: sizeBytes)
        let isCounted = statement.shape.kind == .insert && plan.firesTriggers
        batch.add(step(name, row, isEncodedNow: isEncodedNow), sizeBytes: 64, rows: isCounted ? 1 : nil, change: nil)
    }

    private func step(_ name: String, _ source: some ParameterSource, isEncodedNow: Bool) -> PipelineStep {
        guard isEncodedNow else { return .executeLater(name: name, parameters: source) }
        var parameters = PackedParameters(bytes: source.approximateBytes)
        source.append(to: &parameters)
        return .executePacked(name: name, parameters: parameters)
    }

    /// The rows of an insert that is worth a COPY.
    private func copy(_ statement: BulkStatement, of group: GroupPlan, chunks: [ChangeChunk]) -> RowCopy? {
        guard statement.shape.kind == .insert, statement.rows.count >= limits.copiedRows,
            let plan = plans.plan(statement.shape.definition), plan.isBinary
        else { return nil }
        return RowCopy(
            sql: BulkStatement.copySQL(shape: statement.shape, plan: plan),
            encoder: CopyEncoder(
                columns: statement.shape.written.map { plan.columns[$0] }, rows: statement.rows, plan: group,
                chunks: chunks))
    }

    /// How many rows go into one statement, by the size of the first few: only where a group has enough for it can others,
    /// larger ones, make too much of them.
    private func rowsPerStatement(
        _ rows: ArraySlice<RowSource>, _ columns: [RelationPlan.Column], _ group: GroupPlan, _ chunks: [ChangeChunk]
    ) -> Int {
        let sample = rows.prefix(16)
        let sizeBytes = sizeBytes(of: sample, columns, group, chunks)
        let count = max(1, limits.statementBytes * sample.count / max(1, sizeBytes))
        guard chunks.sizeBytes > limits.mostBytes else { return count }
        var total = 0
        let fitting = rows.prefix(count).prefix { row in
            total += self.sizeBytes(of: [row], columns, group, chunks)
            return total <= limits.mostBytes
        }
        return max(1, fitting.count)
    }

    private func sizeBytes(
        of rows: ArraySlice<RowSource>, _ columns: [RelationPlan.Column], _ group: GroupPlan, _ chunks: [ChangeChunk]
    ) -> Int {
        rows.reduce(0) { total, row in
            columns.reduce(total) { $0 + 4 + group.sizeBytes(of: row, sourceIndex: $1.sourceIndex, chunks: chunks) }
        }
    }

    private mutating func addTruncation(
        _ truncation: Truncation, _ span: TransactionSpan, _ position: Int, _ batch: inout StepBatch
    ) {
        let planned = truncation.relations.compactMap { plans.plan($0) }
        noteEmptied(planned.map(\.table), span, position, &batch)
        let reached = planned.filter { span.commitLSN >= $0.copiedUpTo }
        guard let first = reached.first?.table else {
            counters.ignored += 1
            return
        }
        let sql = RowStatement.truncate(reached.map(\.onlyTable), restartsIdentity: truncation.restartsIdentity)
        batch.add(
            .query(sql: sql, parameters: [], parameterTypes: []), sizeBytes: sql.utf8.count, rows: nil,
            change: FailedChange(table: first, kind: .truncate, span: span, position: position))
        counters.changes += 1
    }
}

extension FailedChange {
    init(table: QualifiedName, kind: Change.Kind, span: TransactionSpan, position: Int) {
        self.init(table: table, kind: kind, xid: span.xid, commitLSN: span.commitLSN, position: position)
    }
}

extension TransactionSpan {
    /// A change's place in its source transaction, however that was cut.
    func position(of index: Int) -> Int { precedingCount + index - changes.lowerBound }
}

extension ChangeArena {
    /// A cell as a statement's parameter.
    func parameter(_ index: Int) -> PostgresParameter {
        let cell = cells[index]
        return switch cell.kind {
        case .null, .unchanged: .null
        case .text: .textBytes(Array(bytes[cell.range]))
        case .binary: .binary(Array(bytes[cell.range]))
        }
    }
}
