import PostgresClient
import ReplicationCore

/// Reads what waits in a slot as the worker would, and applies nothing: what is there, and how fast it can come.
///
/// It reads through a temporary copy: the slot stays where it is, and a worker that uses it is not disturbed.
public struct SlotReading: Sendable {
    let settings: DirectionSettings
    let end: LSN?

    /// - Parameters:
    ///   - settings: whose source, slot and publication are used.
    ///   - end: where to stop; `nil` for what the source has written by now.
    public init(settings: DirectionSettings, until end: LSN?) {
        self.settings = settings
        self.end = end
    }

    /// - Throws: `ReplicationFailure` when the slot or the publication is missing; `PostgresError`.
    public func run() async throws -> SlotContents {
        try await PostgresConnection.with(settings.source) { source in
            let check = SourceCheck(settings: settings, connection: source)
            try await check.verifyPublication()
            let slot = try await check.slot(allowsTwoPhase: true)
            let end: LSN
            if let wanted = self.end { end = wanted } else { end = try await check.currentLSN() }
            let timeout = try await check.senderTimeoutMilliseconds()
            let isBinary = try await isPortable(source)
            return try await ReplicationConnection.with(settings.source) { stream in
                let copy = "lindero_read_\(String(UInt64.random(in: 0...UInt64.max), radix: 36))"
                let names = [settings.slot, copy].map(SQLText.literal).joined(separator: ", ")
                try await stream.execute("SELECT pg_catalog.pg_copy_logical_replication_slot(\(names), true)")
                let startedAt = Monotonic.milliseconds()
                try await stream.startReplication(
                    slot: copy, at: slot.confirmedLSN.rawValue,
                    options: StreamOptions.list(publication: settings.publication, isBinary: isBinary))
                var contents = try await read(stream, from: slot.confirmedLSN, until: end, senderTimeout: timeout)
                contents.milliseconds = Monotonic.milliseconds() - startedAt
                return contents
            }
        }
    }

    private func read(
        _ stream: ReplicationConnection, from start: LSN, until end: LSN, senderTimeout: Int
    ) async throws -> SlotContents {
        let state = DirectionState()
        state.begin(durable: start)
        let mailbox = StreamMailbox(limitBytes: settings.replication.waitingBytes)
        let reader = StreamReader(
            stream: stream, mailbox: mailbox, state: state, senderTimeoutMilliseconds: senderTimeout, limits: .none)
        async let reading: Void = reader.run()
        var contents = SlotContents(startLSN: start)
        while contents.endLSN < end, let chunks = await mailbox.take(.none) {
            for chunk in chunks {
                contents.add(chunk)
                state.note(applied: chunk.endLSN, durable: chunk.endLSN)
            }
        }
        if contents.endLSN < end { try await reading }
        try Task.checkCancellation()
        return contents
    }

    /// Whether the worker could ask for binary values, as far as the source decides.
    private func isPortable(_ source: PostgresConnection) async throws -> Bool {
        let names = try await CatalogReader.publishedTables(source, publication: settings.publication)
        guard !names.isEmpty else { return true }
        return try await CatalogReader.tables(source, matching: names).allSatisfy {
            $0.columns.allSatisfy(TypeCompatibility.hasPortableBinary)
        }
    }
}

/// What was found in a slot.
public struct SlotContents: Sendable, Equatable {
    public struct Table: Sendable, Equatable {
        public var inserts = 0
        public var updates = 0
        public var deletes = 0
        public var truncations = 0
        public var changes: Int { inserts + updates + deletes + truncations }
    }

    /// What the slot had confirmed.
    public var startLSN: LSN
    /// Everything before it was read.
    public var endLSN: LSN
    public var transactions = 0
    /// Row changes, and each truncation once.
    public var changes = 0
    /// Bytes of column values.
    public var valueBytes = 0
    /// From the start of the stream, with decoding on the server and here.
    public var milliseconds: Int64 = 0
    public var tables: [QualifiedName: Table] = [:]

    init(startLSN: LSN) {
        self.startLSN = startLSN
        endLSN = startLSN
    }

    /// WAL between both ends, of every database and table, in bytes.
    public var walBytes: UInt64 { endLSN.rawValue - startLSN.rawValue }
    public var changesPerSecond: Double? { milliseconds > 0 ? Double(changes) * 1_000 / Double(milliseconds) : nil }

    mutating func add(_ chunk: ChangeChunk) {
        transactions += chunk.transactions.count(where: \.isCommitted)
        changes += chunk.changes.count
        valueBytes += chunk.arena.bytes.count
        endLSN = max(endLSN, chunk.endLSN)
        var counted: [Int: Table] = [:]
        for change in chunk.changes {
            switch change.kind {
            case .insert: counted[change.relation, default: Table()].inserts += 1
            case .update: counted[change.relation, default: Table()].updates += 1
            case .delete: counted[change.relation, default: Table()].deletes += 1
            case .truncate:
                for relation in chunk.truncations[change.relation].relations {
                    counted[relation, default: Table()].truncations += 1
                }
            }
        }
        for (definition, count) in counted {
            guard let name = chunk.relations[definition]?.name else { continue }
            tables[name, default: Table()].add(count)
        }
    }
}

extension SlotContents.Table {
    fileprivate mutating func add(_ other: Self) {
        inserts += other.inserts
        updates += other.updates
        deletes += other.deletes
        truncations += other.truncations
    }
}
