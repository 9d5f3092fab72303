import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Emptying what a replica left, while somebody uses it.
@Suite struct LeftCopiesTests {
    private static let table = QualifiedName(schema: "public", name: "left")
    private static let known = "SELECT count(*)::text FROM lindero.table_copy"

    /// - Parameter isWhole: whether the table was copied to its end, or only a part of it.
    private func connect(isWhole: Bool = true) async throws -> (PostgresConnection, ConnectionOptions) {
        let options = ConnectionOptions(try await PostgresCluster.shared("target").createDatabase(prefix: "left"))
        let connection = try await PostgresConnection.connect(options)
        _ = try await Migrator(connection: connection).migrate()
        _ = try await connection.execute(
            """
            CREATE TABLE public."left" (id int PRIMARY KEY); INSERT INTO public."left" SELECT generate_series(1, 10);
            \(isWhole
                ? "INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes) VALUES ('bot->sync', 'public', 'left', '0/1', 10, 10)"
                : """
                    INSERT INTO lindero.table_copy_chunk (direction, schema_name, table_name, heap, from_block, to_block, snapshot_lsn, shape, rows, bytes)
                    VALUES ('bot->sync', 'public', 'left', 1, 0, 1, '0/1', '', 10, 10)
                    """)
            """)
        return (connection, options)
    }

    @Test func readersGetThroughWhileSomebodyHoldsATable() async throws {
        let (connection, options) = try await connect()
        let holder = try await PostgresConnection.connect(options)
        let reader = try await PostgresConnection.connect(options)
        _ = try await holder.execute("BEGIN; SELECT * FROM public.\"left\"")
        async let emptied = LeftCopies(name: "sync", target: connection, direction: "bot->sync").empty()
        try await waitUntil("it waits for the holder") {
            try await reader.query("SELECT 1 FROM pg_locks WHERE relation = 'public.left'::regclass AND NOT granted").rowCount > 0
        }
        // Behind one that waited on and on none of these would come.
        for _ in 1...20 { _ = try await reader.query("SELECT * FROM public.\"left\"") }
        _ = try await holder.execute("COMMIT")
        #expect(try await emptied == [Self.table])
        #expect(try await reader.query("SELECT count(*)::text FROM public.\"left\"").firstValue == "0")
        #expect(try await reader.query(Self.known).firstValue == "0")
        for session in [connection, holder, reader] { await session.close() }
    }

    /// Of a large table whose copy was given up some pieces are there, and only they are known.
    @Test func whatWasCopiedInPartIsEmptiedToo() async throws {
        let (connection, _) = try await connect(isWhole: false)
        let copies = LeftCopies(name: "sync", target: connection, direction: "bot->sync")
        #expect(try await copies.tables() == [Self.table])
        #expect(try await copies.empty() == [Self.table])
        #expect(try await connection.query("SELECT (SELECT count(*) FROM public.\"left\") + (SELECT count(*) FROM lindero.table_copy_chunk)").firstValue == "0")
        #expect(try await copies.tables().isEmpty)
        await connection.close()
    }

    @Test func whatWasTakenAsItWasStays() async throws {
        let (connection, _) = try await connect()
        _ = try await connection.execute("UPDATE lindero.table_copy SET snapshot_lsn = '0/0'")
        let copies = LeftCopies(name: "sync", target: connection, direction: "bot->sync")
        #expect(try await copies.tables().isEmpty)
        #expect(try await copies.empty().isEmpty)
        #expect(try await connection.query("SELECT count(*)::text FROM public.\"left\"").firstValue == "10")
        await connection.close()
    }

    /// As `PolicyRefresh` advises: by now it may be somebody's own table.
    @Test func whatWasGivenUpUnderAFormerNameStays() async throws {
        let (connection, _) = try await connect()
        _ = try await connection.execute(
            """
            CREATE TABLE public.own AS SELECT 1 AS id;
            INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes, left_at_lsn)
            VALUES ('bot->sync', 'public', 'own', '0/0', 0, 0, '0/0')
            """)
        let copies = LeftCopies(name: "sync", target: connection, direction: "bot->sync")
        #expect(try await copies.empty() == [Self.table])
        #expect(try await connection.query("SELECT count(*)::text FROM public.own").firstValue == "1")
        await connection.close()
    }

    @Test func oneThatIsInUseAllTheTimeIsNamedAndStaysKnown() async throws {
        let (connection, options) = try await connect()
        let holder = try await PostgresConnection.connect(options)
        _ = try await holder.execute("BEGIN; SELECT * FROM public.\"left\"")
        var copies = LeftCopies(name: "sync", target: connection, direction: "bot->sync")
        copies.limitMilliseconds = 50
        do {
            _ = try await copies.empty()
            Issue.record("it was emptied under a reader")
        } catch let failure as ReplicationFailure {
            let pid = try await holder.query("SELECT pg_backend_pid()::text").firstValue ?? ""
            #expect(failure.code == .tableInUse && failure.message.contains("held by pid \(pid) of postgres"), "\(failure)")
        }
        #expect(try await connection.query(Self.known).firstValue == "1")
        for session in [connection, holder] { await session.close() }
    }
}
