import Foundation
import PostgresClient
import TestSupport
import Testing

/// Both services write their own columns of the same rows, as fast as they can, with values that TOAST puts away.
@Suite struct SplitFullSpeedTests {
    private static let table = "public.\"Reservas\""
    private static let rows = 20
    private static let writes = 300

    @Test func bothOwnersColumnsSurviveInEveryRow() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        for side in [pair.bot, pair.sync] {
            _ = try await side.execute(
                "ALTER TABLE \(Self.table) ALTER \"crmNotes\" SET STORAGE EXTERNAL, ALTER \"apiData\" SET STORAGE EXTERNAL")
        }
        _ = try await pair.bot.execute(
            "INSERT INTO \(Self.table) (\"bookingId\") SELECT 'b-' || i FROM generate_series(1, \(Self.rows)) i")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        let (bot, sync) = (pair.bot, pair.sync)
        async let notes = Self.write("crmNotes", on: bot, seed: 1)
        async let data = Self.write("apiData", on: sync, seed: 2)
        let (lastNotes, lastData) = try await (notes, data)
        let last = """
            SELECT "bookingId", left("crmNotes", 9), length("crmNotes"), left("apiData", 9), length("apiData") FROM \(Self.table)
            ORDER BY "bookingId"
            """
        try await waitUntil("each side has the other's last value of every row", timeoutSeconds: 120) {
            let (onSync, onBot) = (try await sync.execute(last).rows, try await bot.execute(last).rows)
            return onSync.allSatisfy { $0[1] == lastNotes[$0[0] ?? ""] } && onBot.allSatisfy { $0[3] == lastData[$0[0] ?? ""] }
        }
        for side in [bot, sync] {
            for row in try await side.execute(last).rows {
                #expect(row[1] == lastNotes[row[0] ?? ""] && row[3] == lastData[row[0] ?? ""])
                #expect(row[2] == (row[1] == nil ? nil : "9033") && row[4] == (row[3] == nil ? nil : "9033"))
            }
        }
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        #expect(try await pair.values("SELECT count(*) FROM lindero.conflict") == ["0", "0"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// Writes without a pause; the last value of each row.
    private static func write(_ column: String, on connection: PostgresConnection, seed: UInt64) async throws -> [String: String] {
        var random = SeededGenerator(seed: seed)
        var last: [String: String] = [:]
        for number in 1...writes {
            let key = "b-\(1 + random.below(rows))"
            let value = String(format: "%09d", number)
            _ = try await connection.query(
                "UPDATE \(table) SET \"\(column)\" = $1 || repeat(md5($1), 282) WHERE \"bookingId\" = $2",
                [.text(value), .text(key)], parameterTypes: [25, 25])
            last[key] = value
        }
        return last
    }
}
