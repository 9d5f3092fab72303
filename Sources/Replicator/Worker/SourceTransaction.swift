import PostgresClient
import ReplicationCore

/// What became of a transaction of the source's.
///
/// One that is prepared and rolled back before the source has decoded it comes with holes: the server leaves out what it can't read any
/// more, and sends the other changes, the Prepare and then the Rollback Prepared (`ReorderBufferProcessTXN`, concurrent abort).
struct SourceTransaction {
    /// The 32 bits of it that travel.
    let xid: UInt32

    /// Whether it is known to have been rolled back.
    func isRolledBack(on source: PostgresConnection) async throws(PostgresError) -> Bool {
        try await source.query(
            """
            SELECT pg_catalog.pg_xact_status((s.near - CASE WHEN s.near > s.next THEN 4294967296 ELSE 0 END)::text::xid8) = 'aborted'
            FROM (SELECT n.next, n.next - n.next % 4294967296 + $1::text::bigint AS near
                  FROM (SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint AS next) n) s
            """, [.text("\(xid)")], timeoutMilliseconds: 10_000
        ).firstValue == "t"
    }
}
