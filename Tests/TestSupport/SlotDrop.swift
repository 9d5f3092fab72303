import PostgresClient

extension PostgresCluster {
    /// Drops the slots of a connection's database, which would keep a shared server's log; who still reads one is ended. Where the
    /// server does not answer, there is nothing to keep.
    public static func dropSlots(_ connection: PostgresConnection) async {
        let slots = "FROM pg_replication_slots WHERE database = current_database()"
        try? await waitUntil("all slots are dropped") {
            _ = try await connection.execute("SELECT pg_terminate_backend(active_pid) \(slots) AND active")
            // One that is just being let go, or taken, refuses: again.
            _ = try? await connection.execute("SELECT pg_drop_replication_slot(slot_name) \(slots) AND NOT active")
            return try await connection.execute("SELECT \(slots)").rows.isEmpty
        }
    }
}
