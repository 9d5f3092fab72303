import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct ClockReaderTests {
    /// Both servers run on one machine: the truth is that their clocks show the same.
    @Test func twoServersOfOneMachineAreFoundAtTheSameTime() async throws {
        let source = try await PostgresConnection.connect(ConnectionOptions(try await PostgresCluster.shared("source").conninfo()))
        let target = try await PostgresConnection.connect(ConnectionOptions(try await PostgresCluster.shared("target").conninfo()))
        let offset = try #require(try await ClockReader.offset(source: source, target: target))
        // The servers cut their clocks to whole microseconds.
        #expect(abs(offset.microseconds) <= offset.errorMicroseconds + 1, "\(offset)")
        await source.close()
        await target.close()
    }

    @Test func clocksTooFarApartBlockOnlyWhatTheyDecide() throws {
        func check(_ policy: SharedColumnRule.Policy) -> ClockCheck {
            let name = QualifiedName(schema: "public", name: "t")
            let table = TableOwnership(
                table: name, match: ["id"], insertOwners: [], deleteOwners: [], privateColumns: [],
                columns: ["phone": .shared(SharedColumnRule(policy: policy))])
            return ClockCheck(source: "bot", target: "sync", gates: Gates(), policy: OwnershipPolicy(tables: [name: table]))
        }
        let far = ClockOffset(microseconds: -400_000, errorMicroseconds: 1_000)
        let failure = #expect(throws: ReplicationFailure.self) { try check(.lastWrite).require(far) }
        #expect(failure?.isBlocker == true)
        #expect(failure?.message.contains("sync's clock is 400.0 ms behind bot's (± 1.0 ms)") == true)
        try check(.max).require(far)
        try check(.lastWrite).require(ClockOffset(microseconds: 249_000, errorMicroseconds: 900))
        // What can't be told is not held against anybody.
        try check(.lastWrite).require(ClockOffset(microseconds: 300_000, errorMicroseconds: 60_000))
    }
}
