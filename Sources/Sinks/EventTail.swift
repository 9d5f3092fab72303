import Logging
import PostgresClient
import ReplicationCore
import Replicator

/// Prints what is committed from now on, a line for each change, through a temporary slot of its own.
///
/// It leaves nothing behind: the slot ends with its connection, however that ends. No worker's slot is touched.
public struct EventTail: Sendable {
    /// Lines that may gather before they are written.
    static let flushBytes = 256 << 10
    static let waitMilliseconds = 200

    /// `slot` is the temporary one's name.
    let settings: DirectionSettings
    let tables: Set<QualifiedName>
    let limit: Int?
    let stopsWhenCaughtUp: Bool
    let output: LineOutput
    let logger: Logger

    /// - Parameters:
    ///   - tables: which of the publication's tables are wanted.
    ///   - limit: ends after so many events.
    ///   - stopsWhenCaughtUp: ends once everything has been printed that was committed when the stream began.
    public init(
        settings: DirectionSettings, tables: Set<QualifiedName>, limit: Int?, stopsWhenCaughtUp: Bool,
        output: LineOutput, logger: Logger
    ) {
        self.settings = settings
        self.tables = tables
        self.limit = limit
        self.stopsWhenCaughtUp = stopsWhenCaughtUp
        self.output = output
        self.logger = logger
    }

    /// Runs until the limit, the position, the end of the output's reader, or the task's cancellation.
    ///
    /// - Returns: how many events were printed.
    public func run() async throws -> Int {
        try await PostgresConnection.with(settings.source) { source in
            let check = SourceCheck(settings: settings, connection: source)
            return try await ReplicationConnection.with(settings.source) { try await follow($0, source, check) }
        }
    }

    private func follow(
        _ stream: ReplicationConnection, _ source: PostgresConnection, _ check: SourceCheck
    ) async throws -> Int {
        let timeout = try await check.senderTimeoutMilliseconds()
        let slot = try await SlotCreation(source: source, logger: logger).create(
            settings.slot, temporary: true, exportsSnapshot: false, on: stream)
        let start = LSN(slot.consistentPoint)
        try await stream.startReplication(
            slot: slot.name, at: slot.consistentPoint,
            options: [
                ("proto_version", "1"), ("publication_names", SQLText.identifier(settings.publication)),
                ("binary", "false"),
            ])
        let end = stopsWhenCaughtUp ? try await check.currentLSN() : nil
        logger.info(
            "following events",
            metadata: [
                "database": "\(settings.sourceName)", "publication": "\(settings.publication)",
                "tables": "\(tables.count)", "from": "\(start)",
            ])
        var reader = EventReader(
            source: source, lines: EventLines(limit: limit ?? .max) { [tables] in tables.contains($0) }, end: end)
        let feedback = StreamFeedback(stream: stream, senderTimeoutMilliseconds: timeout, start: start)
        do {
            try await print(stream, feedback, &reader)
        } catch where !Task.isCancelled {
            logger.error(
                "the stream ended before it was told to; events after this position may be missing",
                metadata: ["position": "\(max(start, reader.lines.position))", "events": "\(reader.lines.eventCount)"])
            throw error
        } catch {
            return reader.lines.eventCount
        }
        return reader.lines.eventCount
    }

    private func print(
        _ stream: ReplicationConnection, _ feedback: StreamFeedback, _ reader: inout EventReader
    ) async throws {
        while !reader.isDone && !output.isReaderGone && !Task.isCancelled {
            let batch = try await stream.receive(maximumBytes: 1 << 20, waitMilliseconds: Self.waitMilliseconds)
            for range in batch.messages where !reader.isDone {
                if try await reader.read(batch.bytes, range) { await feedback.handleReplyRequest() }
                guard reader.lines.waitingBytes >= Self.flushBytes else { continue }
                guard try await flush(&reader.lines, feedback) else { return }
            }
            guard try await flush(&reader.lines, feedback) else { return }
            await feedback.note(written: reader.lines.position)
            if batch.isEnd { throw PostgresError.closed("The server ended the replication stream.") }
            try await feedback.report(asksForReply: stopsWhenCaughtUp && batch.messages.isEmpty)
        }
    }

    /// Writes the lines, however long their reader takes; the server hears of us meanwhile.
    ///
    /// - Returns: whether somebody still reads.
    private func flush(_ lines: inout EventLines, _ feedback: StreamFeedback) async throws -> Bool {
        let bytes = lines.takeBytes()
        if bytes.isEmpty { return true }
        return try await withThrowingTaskGroup(of: Bool?.self) { group in
            group.addTask { [output] in try await output.write(bytes) }
            group.addTask {
                while true {
                    try await Task.sleep(for: .milliseconds(Self.waitMilliseconds))
                    try await feedback.report()
                }
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            return true
        }
    }
}

/// Reads messages into lines, and asks the catalog where the stream does not say enough.
private struct EventReader {
    let source: PostgresConnection
    var decoder = PGOutputDecoder(protocolVersion: 1)
    var lines: EventLines
    /// Where to stop; `nil` for never.
    let end: LSN?

    init(source: PostgresConnection, lines: EventLines, end: LSN?) {
        self.source = source
        self.lines = lines
        self.end = end
    }

    var isDone: Bool {
        lines.isAtLimit || end.map { !lines.isInTransaction && lines.position >= $0 } ?? false
    }

    /// - Returns: whether the server wants an answer.
    mutating func read(_ bytes: [UInt8], _ range: Range<Int>) async throws -> Bool {
        switch try ReplicationFrame(bytes, range) {
        case .keepalive(let lsn, _, let replyRequested):
            lines.handleIdle(at: lsn)
            return replyRequested
        case .xLogData(let lsn, _, _, let payload):
            let message = try decoder.decode(bytes, payload, into: &lines.arena)
            if case .relation(let relation, _) = message, lines.wantsDescription(relation) {
                let description = try await CatalogReader.tables(source, matching: [relation.name]).first
                lines.announce(relation, description: description)
            } else {
                try lines.handle(message, at: lsn)
            }
            return false
        }
    }
}
