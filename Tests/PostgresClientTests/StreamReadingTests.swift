import PostgresClient
import TestSupport
import Testing

/// A stream that is read on its own thread, message by message.
@Suite struct StreamReadingTests {
    /// Longer than any machine is busy: a reader that is done before it has stopped for another reason.
    private static let patienceMilliseconds = 600_000

    /// A writer, and a stream of what it commits.
    private func open() async throws -> (writer: PostgresConnection, stream: ReplicationConnection) {
        let options = ConnectionOptions(try await TestDatabase().conninfo)
        let writer = try await PostgresConnection.connect(options)
        try await writer.execute("CREATE TABLE public.t (a text); CREATE PUBLICATION p FOR ALL TABLES")
        let stream = try await ReplicationConnection.connect(options.withoutSenderTimeout)
        let name = "reading_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        _ = try await stream.createSlot(name, temporary: true)
        try await stream.startReplication(slot: name, at: 0, options: [("proto_version", "1"), ("publication_names", "p")])
        return (writer, stream)
    }

    /// Reads until a message contains a text.
    private func read(_ stream: ReplicationConnection, until text: String) async throws {
        try await stream.reading { stream in
            while true {
                let batch = try stream.receiveBlocking(
                    maximumBytes: 1 << 20, waitMilliseconds: Self.patienceMilliseconds, isWorthGathering: { false })
                if String(decoding: batch.bytes, as: UTF8.self).contains(text) { return }
            }
        }
    }

    @Test func aCancelledReaderStopsWaitingAndTheStreamGoesOn() async throws {
        let (writer, stream) = try await open()
        for round in 0..<5 {
            try await writer.execute("INSERT INTO public.t VALUES ('before \(round)')")
            try await read(stream, until: "before \(round)")
            let start = ContinuousClock.now
            let reading = Task { try await read(stream, until: "never") }
            // At once in one round, in the others while it waits, more or less.
            for _ in 0..<(round * 100) { await Task.yield() }
            reading.cancel()
            #expect(await postgresError { try await reading.value } == .cancelled)
            #expect(.now - start < .milliseconds(Self.patienceMilliseconds / 2))
        }
        try await writer.execute("INSERT INTO public.t VALUES ('the last one')")
        try await read(stream, until: "the last one")
        await stream.close()
        await writer.close()
    }

    /// What does not fit one piece of the socket is waited for, and what comes with its end is not left lying.
    @Test func largeAndSmallMessagesArriveWhole() async throws {
        let (writer, stream) = try await open()
        let large = String(repeating: "x", count: 300_000)
        try await writer.execute("INSERT INTO public.t VALUES ('\(large)y'), ('small'), ('\(large)z'), ('end of it')")
        try await read(stream, until: "\(large)y")
        try await writer.execute("INSERT INTO public.t VALUES ('behind')")
        try await read(stream, until: "behind")
        await stream.close()
        await writer.close()
    }
}
