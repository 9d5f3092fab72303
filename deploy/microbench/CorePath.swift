import ReplicationCore

/// The worker's path through the core, as `StreamReader` and `StepBuilder` take it. Everything here that the core's API
/// decides is in this file.
struct CorePath {
    static let readBytes = 512 << 10
    static let groupBytes = 4 << 20

    private let groups: [[ChangeChunk]]
    private let relations: [Int: RelationPlan]

    init(_ stream: RecordedStream) throws {
        let chunks = try Self.assemble(stream)
        var groups: [[ChangeChunk]] = [[]]
        for chunk in chunks {
            let sizeBytes = groups[groups.count - 1].reduce(0) { $0 + $1.sizeBytes }
            if sizeBytes > 0, sizeBytes + chunk.sizeBytes > Self.groupBytes { groups.append([]) }
            groups[groups.count - 1].append(chunk)
        }
        self.groups = groups
        var relations: [Int: RelationPlan] = [:]
        for chunk in chunks {
            for definition in Set(chunk.changes.map(\.relation)) where relations[definition] == nil {
                relations[definition] = try chunk.relations[definition].map(Self.relationPlan)
            }
        }
        self.relations = relations
    }

    /// The target's table is the source's; one column of the reservations is private.
    private static func relationPlan(_ relation: RelationMessage) throws -> RelationPlan {
        let columns = relation.columns.map {
            ColumnDescription(
                name: $0.name, type: "\($0.typeOID)", typeOID: $0.typeOID, baseTypeOID: $0.typeOID,
                baseArrayOID: $0.typeOID + 1, castName: "\($0.typeOID)")
        }
        let key = relation.columns.filter(\.isKey).map(\.name)
        let target = TableDescription(name: relation.name, columns: columns, primaryKey: key, identityColumns: key)
        return try RelationPlan.make(relation: relation, target: target, isBinary: true) { $0 != "phone" }
    }

    // MARK: stages

    static func decode(_ stream: RecordedStream) throws {
        var decoder = PGOutputDecoder(protocolVersion: 1)
        var arena = ChangeArena()
        for range in stream.messages {
            guard case .xLogData(_, _, _, let payload) = try ReplicationFrame(stream.bytes, range) else { continue }
            consume(try decoder.decode(stream.bytes, payload, into: &arena))
            if arena.bytes.count > readBytes { arena = ChangeArena() }
        }
    }

    static func assemble(_ stream: RecordedStream) throws -> [ChangeChunk] {
        var decoder = PGOutputDecoder(protocolVersion: 1)
        var assembler = TransactionAssembler()
        var echoes = EchoFilter(ownOrigin: ownOrigin, match: [ownership.table: ownership.match])
        var chunks: [ChangeChunk] = []
        var readFrom = 0
        for range in stream.messages {
            guard case .xLogData(_, _, _, let payload) = try ReplicationFrame(stream.bytes, range) else { continue }
            if echoes.leavesOut(stream.bytes, payload, assembler.relations) { continue }
            let message = try decoder.decode(stream.bytes, payload, into: &assembler.arena)
            try echoes.note(message)
            try assembler.handle(message)
            guard range.upperBound - readFrom >= readBytes else { continue }
            readFrom = range.upperBound
            if let chunk = assembler.take() { chunks.append(chunk) }
        }
        if let chunk = assembler.take() { chunks.append(chunk) }
        return chunks
    }

    // MARK: a split

    static let ownOrigin = "lindero_into_bot"
    private static let ownership = TableOwnership(
        table: QualifiedName(schema: "public", name: "reservations"), match: ["id"], insertOwners: ["bot"],
        deleteOwners: ["bot"], privateColumns: [],
        columns: Dictionary(
            uniqueKeysWithValues: [
                "id", "bookingId", "guestName", "phone", "arrivalDate", "status", "apiData", "lastSync", "updated",
            ].map { ($0, .owned(by: "bot")) } + [("price", .shared(SharedColumnRule(policy: .prefer, side: "bot")))]))

    private static func table(_ chunk: ChangeChunk, _ definition: Int) throws -> SplitTable? {
        try chunk.relations[definition].map {
            try SplitTable(id: 0, relation: $0, ownership: ownership, source: "bot", target: "sync")
        }
    }

    /// Every chunk's transactions; the other side has seen each chunk once the next is read.
    static func operations(_ chunks: [ChangeChunk]) throws -> [[SplitTransaction]] {
        let storage = HistoryStorage(write: { _, _, _ in }, read: { _, _ in [] }, remove: { _ in })
        var reader = SplitReader.restart(
            ownOrigin: ownOrigin, outgoing: SplitProgress(), incoming: SplitProgress(), tableIDs: [ownership.table: 0],
            historyLimitBytes: 64 << 20, storage: storage)
        var tables: [Int: SplitTable] = [:]
        return try chunks.map { chunk in
            for definition in Set(chunk.changes.map(\.relation)) where tables[definition] == nil {
                tables[definition] = try table(chunk, definition)
            }
            reader.history.trim(to: reader.readLSN)
            return try reader.read(chunk) { tables[$0] }
        }
    }

    static func sort(_ chunks: [ChangeChunk], _ transactions: [[SplitTransaction]]) throws {
        for (chunk, transactions) in zip(chunks, transactions) {
            guard let table = try chunk.changes.first.map(\.relation).flatMap({ try table(chunk, $0) }) else { continue }
            var plain = PlainChanges(of: chunk)
            for transaction in transactions {
                plain.begin(transaction, xid: 1)
                for operation in transaction.operations { plain.add(operation, table: table) }
            }
            consume(plain.chunk)
        }
    }

    // MARK: the plan

    func plan() -> [GroupPlan] {
        groups.map { chunks in GroupPlanner.plan(chunks, skipUpTo: .zero) { [relations] in relations[$0] } }
    }

    func encode(_ plans: [GroupPlan]) {
        for (chunks, plan) in zip(groups, plans) {
            for case .bulk(let statement) in plan.steps {
                guard let relation = relations[statement.shape.definition] else { continue }
                let key = statement.shape.kind == .insert ? [] : relation.keyColumns
                let columns = (statement.shape.written + key).map { relation.columns[$0] }
                let encoder = ArrayEncoder(columns: columns, rows: statement.rows[...], plan: plan, chunks: chunks)
                var bytes: [UInt8] = []
                consume(encoder.encode(into: &bytes))
                consume(bytes)
            }
        }
    }
}
