/// What is left of Lindero in each database, what of it is needed, and what may be removed.
public struct Decommission: Sendable {
    /// What a worker runs in the phase that holds.
    public struct Direction: Sendable, Equatable {
        /// `source->target`.
        public var name: String
        public var source: String
        /// `nil` for the change feed of shared mode.
        public var target: String?
        public var slot: String
        public var publication: String

        public init(source: String, target: String?, slot: String, publication: String) {
            name = "\(source)->\(target ?? "feed")"
            (self.source, self.target, self.slot, self.publication) = (source, target, slot, publication)
        }
    }

    public var phase: Phase
    /// What the phase's record has the worker run.
    public var mode: WorkerMode
    public var isMoving: Bool
    /// Workers that run now.
    public var workers: [WorkerMode]
    public var origin: String
    public var directions: [Direction]
    /// Slots and publications that some phase has, by database, whether they are there or not.
    public var knownNames: [String: Set<String>]
    /// Who owns what; `nil` when the file does not fit the tables.
    public var policy: OwnershipPolicy?
    public var configuration: LinderoConfiguration
    public var databases: [DatabaseRemains]

    public init(
        state: PhaseState, workers: [WorkerMode], configuration: LinderoConfiguration, policy: OwnershipPolicy?,
        directions: [Direction], knownNames: [String: Set<String>] = [:], databases: [DatabaseRemains]
    ) {
        phase = state.phase
        mode = state.worker
        isMoving = state.move != nil
        origin = configuration.origin
        self.workers = workers
        self.configuration = configuration
        self.policy = policy
        self.directions = directions
        self.knownNames = knownNames
        self.databases = databases
    }

    /// Everything, by database and then in the order of removal.
    public var remnants: [Remnant] {
        let readings = [guarded, refusals, slots, publications, origins, identities, roles, columns, schema]
        return databases.flatMap { remains in readings.flatMap { $0(remains) } }
    }

    private func need(_ direction: Direction?, _ verb: String) -> String? {
        direction.map { "\(mode.rawValue): \($0.name) \(verb) it" }
    }

    private func guarded(_ remains: DatabaseRemains) -> [Remnant] {
        guard let found = remains.guarded else { return [] }
        let words = "column ownership of \(found.tableCount) tables in the database itself (privileges or triggers); what was there before comes back"
        return [Remnant(remains.database, .guarded, found.mode, words: words, sql: found.sql)]
    }

    private func refusals(_ remains: DatabaseRemains) -> [Remnant] {
        remains.refusals.map { refusal in
            var remnant = Remnant(
                remains.database, .refusal, refusal.service,
                words: "triggers on \(refusal.sql.count) tables that refuse writes of \(refusal.service)'s roles, which write to another database now",
                sql: refusal.sql)
            if phase == .split { remnant.need = "\(mode.rawValue): nothing of \(refusal.service) may be written here by mistake" }
            return remnant
        }
    }

    private func slots(_ remains: DatabaseRemains) -> [Remnant] {
        remains.objects.slots.map { slot in
            var remnant = Remnant(
                remains.database, .slot, slot.name, words: "a replication slot; without it changes since its position can't be read any more",
                sql: [OwnObjects.dropSlot(slot.name)])
            remnant.need = need(directions.first { $0.source == remains.database && $0.slot == slot.name }, "reads")
            remnant.use = slot.isActive ? "a session reads it now" : nil
            remnant.retainedWALBytes = slot.retainedBytes
            return remnant
        }
    }

    private func publications(_ remains: DatabaseRemains) -> [Remnant] {
        remains.objects.publications.map { name in
            var remnant = Remnant(
                remains.database, .publication, name, words: "says which tables a slot sends", sql: [OwnObjects.dropPublication(name)])
            remnant.need = need(directions.first { $0.source == remains.database && $0.publication == name }, "reads")
            return remnant
        }
    }

    private func origins(_ remains: DatabaseRemains) -> [Remnant] {
        remains.objects.origins.map { origin in
            var remnant = Remnant(
                remains.database, .origin, Self.object(origin, in: remains.database), words: "how far the changes of \(origin.direction) are applied",
                sql: [OwnObjects.dropOrigin(origin.name)])
            remnant.need = need(directions.first { $0.target == remains.database && $0.name == origin.direction }, "keeps its progress with")
            remnant.use = origin.isHeld ? "a session applies with it now" : nil
            return remnant
        }
    }

    /// The source's name says it: an arrow would be a redirection on a command line.
    private static func object(_ origin: OwnObjects.Origin, in database: String) -> String {
        let suffix = "->\(database)"
        return origin.direction.hasSuffix(suffix) ? String(origin.direction.dropLast(suffix.count)) : origin.name
    }

    private func identities(_ remains: DatabaseRemains) -> [Remnant] {
        remains.identities.map { identity in
            var remnant = Remnant(
                remains.database, .identity, Self.word(identity.table),
                words: "old rows of the table are logged as Lindero needs them; the identity that was there before comes back", sql: identity.sql)
            if mode.backend == .split { remnant.need = "\(mode.rawValue): changes of both sides are told apart by it" }
            return remnant
        }
    }

    private func roles(_ remains: DatabaseRemains) -> [Remnant] {
        guard phase == .split, !isMoving else { return [] }
        return remains.writers.map { writer in
            let tables = writer.granted.map(\.sql).joined(separator: ", ")
            var remnant = Remnant(
                remains.database, .role, writer.role,
                words: "a role of the other service, whose database is another one now, may write \(Self.list(writer.granted + writer.otherwise)) here; "
                    + "a rollback would need that again",
                sql: writer.granted.isEmpty
                    ? [] : ["REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON \(tables) FROM \(SQLText.identifier(writer.role));"])
            // Its removal would give them back.
            remnant.after = guarded(remains).map(\.name)
            if writer.granted.isEmpty {
                remnant.obstacle = "it may write \(Self.list(writer.otherwise)) as owner, superuser, member of another role or through PUBLIC, "
                    + "which no REVOKE from itself takes away"
            }
            return remnant
        }
    }

    private func columns(_ remains: DatabaseRemains) -> [Remnant] {
        guard mode.backend != .shared, !isMoving, let policy else { return [] }
        return policy.tables.values.sorted { $0.table < $1.table }.flatMap { table in
            table.privateColumns.sorted().compactMap { column in
                guard remains.columns[table.table]?.contains(column) == true, !table.match.contains(column),
                    case .owned(let owner)? = table.columns[column], owner != remains.database
                else { return nil }
                // Until the split its owner writes it here.
                if remains.database == origin, phase != .split { return nil }
                var remnant = Remnant(
                    remains.database, .column, "\(Self.word(table.table)).\(column)",
                    words: remains.database == origin
                        ? "\(owner)'s private column: since the split it is written on \(owner) alone, and what is here stands still"
                        : "\(owner)'s private column: it never travels, and nothing writes it here",
                    sql: ["ALTER TABLE \(table.table.sql) DROP COLUMN \(SQLText.identifier(column));"])
                if remains.database == origin {
                    remnant.need = "\(mode.rawValue): lindero.yaml names it, and its rules are read from \(origin)'s tables"
                }
                return remnant
            }
        }
    }

    private func schema(_ remains: DatabaseRemains) -> [Remnant] {
        guard let found = remains.schema else { return [] }
        var remnant = Remnant(
            remains.database, .schema, "lindero",
            words: "Lindero's own tables (version \(found.version)): progress, phase, audit, conflicts; their rows go with them", sql: found.sql)
        remnant.cost = PlainText.bytes(found.sizeBytes)
        remnant.obstacle = found.obstacle
        // It remembers what was there before them.
        remnant.after = (guarded(remains) + identities(remains)).map(\.name)
        if remains.database == origin || mode.backend != .shared { remnant.need = "\(mode.rawValue): lindero run keeps its records here" }
        return [remnant]
    }

    static func word(_ table: QualifiedName) -> String { "\(table.schema).\(table.name)" }

    private static func list(_ tables: [QualifiedName]) -> String {
        let shown = tables.sorted().prefix(5).map(\.description).joined(separator: ", ")
        return tables.count > 5 ? "\(shown) and \(tables.count - 5) more tables" : shown
    }
}
