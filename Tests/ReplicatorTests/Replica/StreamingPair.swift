import Foundation
import PostgresClient
import ReplicationCore
import TestSupport

@testable import Replicator

/// A pair whose source streams every transaction beyond 64 kB while it runs, and whose worker has little memory for it.
///
/// On a cluster apart: transactions that stay open are in the way of whoever makes a slot there.
final class StreamingPair: Sendable {
    let pair: ReplicaPair
    /// Where its files go.
    let base: String

    /// After how long the source gives us up that has not heard of us. On a machine with more tests than cores a thread may
    /// wait for its turn as long as is enough elsewhere.
    static let senderTimeoutSeconds = patient(.seconds(4)).components.seconds
    static let workMemory = """
        DO $$ BEGIN
          EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database());
          EXECUTE format('ALTER DATABASE %I SET wal_sender_timeout = ''\(senderTimeoutSeconds)s''', current_database());
        END $$;
        """
    static let schema =
        "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"

    init(
        _ schema: String = StreamingPair.schema, memoryLimitBytes: Int = 1_000_000, base: String? = nil,
        cluster: String = "streaming"
    ) async throws {
        self.base = base ?? "/tmp/lindero-spill-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        var replication = ReplicationSettings()
        replication.streaming = .on
        replication.spillDirectory = self.base
        replication.memoryLimitBytes = memoryLimitBytes
        pair = try await ReplicaPair(Self.workMemory + schema, replication: replication, cluster: cluster)
    }

    deinit { try? FileManager.default.removeItem(atPath: base) }

    /// Another session on the source.
    func session() async throws -> PostgresConnection { try await ReplicaPair.connect(pair.sourceURL) }

    /// Paths of the files that hold transactions now.
    var files: [String] {
        folders.flatMap { folder in
            ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).map { "\(folder)/\($0)" }
        }
    }

    var folders: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []).map { "\(base)/\($0)" }
    }

    static func rows(_ first: Int, _ last: Int, _ text: String = "r") -> String {
        "INSERT INTO t SELECT i, repeat('\(text)' || i, 20) FROM generate_series(\(first), \(last)) i"
    }

    static let contents = "SELECT count(*), sum(hashtext(t::text)::bigint), max(id) FROM t"
}
