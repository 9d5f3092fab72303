import Testing

@testable import ReplicationCore

/// What real servers streamed, replayed.
@Suite struct StreamedGoldenTests {
    @Test(arguments: ["pg15-streamed", "pg16-streamed", "pg18-streamed"])
    func onlyWhatWasNotRolledBackIsApplied(name: String) throws {
        for limitBytes in [100, 1 << 20] {
            var intake = StreamIntake(limitBytes: limitBytes)
            try intake.read(try GoldenFile(name).messages)
            intake.take()
            let transaction = try #require(intake.committed.first)
            #expect(intake.committed.count == 1)
            let letters = Set(
                transaction.rows.compactMap { $0.split(separator: ",").dropFirst(5).first?.first })
            #expect(letters == ["s", "u"], "\(transaction.rows.map { $0.prefix(60) })")
            // Two of the files end before the abort of the other transaction.
            #expect(intake.streamed.count == (name == "pg18-streamed" ? 0 : 1))
            #expect((intake.spills > 0) == (limitBytes == 100))
        }
    }
}
