import Testing

@testable import ReplicationCore

@Suite struct PositionTests {
    @Test(arguments: [
        ("0/0", UInt64(0)), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", .max),
        ("1/a", 0x1_0000_000A),
    ])
    func positionReadsPostgreSQLText(text: String, value: UInt64) throws {
        let lsn = try #require(LSN(text))
        #expect(lsn.rawValue == value)
        #expect(LSN(lsn.description) == lsn)
    }

    @Test(arguments: [
        "", "/", "1", "1/", "/1", "1/2/3", "1/123456789", "-1/2", "+1/2", "g/1", " 1/2", "1/2 ",
    ])
    func anythingElseIsNoPosition(text: String) {
        #expect(LSN(text) == nil)
    }

    @Test func timeCountsFromTheYearTwoThousand() {
        #expect(PostgresTime(microseconds: 0).unixMicroseconds == 946_684_800_000_000)
        #expect(PostgresTime(microseconds: -946_684_800_000_000).unixMicroseconds == 0)
        #expect(PostgresTime(microseconds: -1) < PostgresTime(microseconds: 0))
    }
}
