import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// A person's decision: an ordinary write of the shared column and the mark, in one transaction.
@Suite struct ManualResolverTests {
    @Test func takingTheLosersValueWritesItAsALocalWriteAndMarksTheConflict() async throws {
        let scene = try await ConflictScene()
        let id = try #require(try await scene.record())
        #expect(try await scene.resolver.resolve(id, take: .side("bot")) == .written)
        #expect(try await scene.phone() == "222")
        #expect(try await scene.phone("b-2") == "111")
        let row = try await scene.connection.query(
            "SELECT state, resolution, resolved_by, resolved_at IS NOT NULL AS done FROM lindero.conflict")
        #expect(row.rows[0][0] == "resolved" && row.rows[0][1] == "take bot" && row.rows[0][2] == "postgres" && row.rows[0][3] == "t")
        // Both carry one transaction's number, and no origin: the other direction takes it along.
        let origin = """
            SELECT (r.xmin = c.xmin)::text || ' ' || (pg_catalog.pg_xact_commit_timestamp_origin(r.xmin)).roident
            FROM public."Reservas" r, lindero.conflict c WHERE r."bookingId" = 'b-1'
            """
        #expect(try await scene.value(origin) == "true 0")
    }

    @Test func takingWhatStandsWritesNothing() async throws {
        let scene = try await ConflictScene()
        let id = try #require(try await scene.record())
        let before = try await scene.value("SELECT xmin FROM public.\"Reservas\" WHERE id = 1")
        #expect(try await scene.resolver.resolve(id, take: .side("sync")) == .stands)
        #expect(try await scene.value("SELECT xmin FROM public.\"Reservas\" WHERE id = 1") == before)
        #expect(try await scene.state(id) == .resolved)
    }

    @Test func aRowThatWasWrittenSinceIsNotOverwrittenWithoutForce() async throws {
        let scene = try await ConflictScene()
        let id = try #require(try await scene.record())
        _ = try await scene.connection.execute("UPDATE public.\"Reservas\" SET phone = '333' WHERE id = 1")
        for choice in [ConflictChoice.side("bot"), .side("sync"), .value("444"), .value(nil)] {
            await #expect(throws: ConflictError.valueMoved(id)) { try await scene.resolver.resolve(id, take: choice) }
        }
        #expect(try await scene.phone() == "333")
        #expect(try await scene.state(id) == .open)
        // What the person wants may stand there already.
        #expect(try await scene.resolver.resolve(id, take: .value("333")) == .stands)
        #expect(try await scene.state(id) == .resolved)
        let other = try #require(try await scene.record(lsn: "0/11"))
        #expect(try await scene.resolver.resolve(other, take: .side("bot"), force: true) == .written)
        #expect(try await scene.phone() == "222")
    }

    @Test func spellingsOfOneValueAreTheSameAndTypesAreKept() async throws {
        let scene = try await ConflictScene()
        let cases: [(column: String, kept: String, wanted: String, text: String)] = [
            ("nights", "3", "4", "4"), ("code", "ab   ", "xyz", "xyz"), ("paid", "true", "f", "false"),
            ("at", "2026-01-02 04:04:05+01", "2027-01-01", "2027-01-01 00:00:00+00"),
            ("data", #"{"a":[1,2]}"#, #"{"b":null}"#, #"{"b": null}"#),
        ]
        for (position, item) in cases.enumerated() {
            let id = try #require(
                try await scene.record(column: item.column, kept: item.kept, lost: item.wanted, lsn: "0/A\(position)"))
            #expect(try await scene.resolver.resolve(id, take: .side("bot")) == .written, "\(item.column)")
            let sql = "SELECT \(SQLText.identifier(item.column))::text FROM public.\"Reservas\" WHERE id = 1"
            #expect(try await scene.value(sql) == item.text, "\(item.column)")
        }
        // NULL is a value like others.
        let id = try #require(try await scene.record(key: #"{"bookingId": "b-2"}"#, column: "paid", kept: nil, lost: "t"))
        #expect(try await scene.resolver.resolve(id, take: .value(nil)) == .stands)
    }

    @Test func whatTheServerRefusesChangesNothingAndNamesNoValue() async throws {
        let scene = try await ConflictScene()
        for (position, bad) in [("nights", "secret-text"), ("nights", "99999"), ("code", "secret")].enumerated() {
            let kept = bad.0 == "nights" ? "3" : "ab"
            let id = try #require(try await scene.record(column: bad.0, kept: kept, lsn: "0/B\(position)"))
            let error = await #expect(throws: ConflictError.self) { try await scene.resolver.resolve(id, take: .value(bad.1)) }
            guard case .refused(id, let reason) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(!reason.contains(bad.1))
            #expect(try await scene.state(id) == .open)
        }
        // The session can be used again.
        let id = try #require(try await scene.record(lsn: "0/C"))
        #expect(try await scene.resolver.resolve(id, take: .side("bot")) == .written)
    }

    @Test func whatNoSingleValueMendsIsOnlyMarked() async throws {
        let scene = try await ConflictScene()
        let id = try #require(
            try await scene.record(column: nil, kept: nil, lost: #"{"phone": "9"}"#, kind: "update_delete", policy: "delete"))
        for choice in [ConflictChoice.side("bot"), .value("x")] {
            await #expect(throws: ConflictError.wholeRow(id, winner: "sync")) {
                try await scene.resolver.resolve(id, take: choice, force: true)
            }
        }
        #expect(try await scene.resolver.resolve(id, take: .side("sync")) == .stands)
        await #expect(throws: ConflictError.alreadyResolved(id)) { try await scene.resolver.resolve(id, take: .side("sync")) }
        await #expect(throws: ConflictError.unknown(99)) { try await scene.resolver.resolve(99, take: .side("sync")) }
        let gone = try #require(try await scene.record(key: #"{"bookingId": "b-9"}"#))
        await #expect(throws: ConflictError.rowGone(gone)) { try await scene.resolver.resolve(gone, take: .side("bot")) }
        #expect(try await scene.resolver.resolve(gone, take: .side("bot"), force: true) == .rowGone)
    }

    @Test func onlyWhatTheSideMayWriteIsWritten() async throws {
        let scene = try await ConflictScene()
        _ = try await scene.connection.execute(
            "ALTER TABLE public.\"Reservas\" ADD \"foreign\" text, ADD copy text GENERATED ALWAYS AS (phone) STORED")
        let name = QualifiedName(schema: "public", name: "Reservas")
        let foreign = try #require(try await scene.record(column: "foreign", kept: nil))
        await #expect(throws: ConflictError.notWritable(table: name, column: "foreign")) {
            try await scene.resolver.resolve(foreign, take: .side("bot"), force: true)
        }
        for column in ["gone", "copy"] {
            let id = try #require(try await scene.record(column: column))
            await #expect(throws: ConflictError.columnGone(table: name, column: column)) {
                try await scene.resolver.resolve(id, take: .side("bot"))
            }
        }
        let stranger = try #require(try await scene.record(lsn: "0/D"))
        await #expect(throws: ConflictError.noSuchSide("crm", sides: ["sync", "bot"])) {
            try await scene.resolver.resolve(stranger, take: .side("crm"))
        }
        // Several rows must never get one row's value.
        let wide = try #require(try await scene.record(key: #"{"phone": "111"}"#, lsn: "0/E"))
        await #expect(throws: ConflictError.keyUnusable(table: name)) {
            try await scene.resolver.resolve(wide, take: .side("bot"))
        }
        #expect(try await scene.phone() == "111")
    }

    @Test func ofTwoPersonsAtOnceOneDecides() async throws {
        let scene = try await ConflictScene()
        let id = try #require(try await scene.record())
        let outcomes = await withTaskGroup(of: String.self) { group in
            for number in 0..<6 {
                group.addTask {
                    do {
                        return try await PostgresConnection.with(scene.options) { connection in
                            try await ManualResolver(connection: connection) { _, _ in true }
                                .resolve(id, take: .value("77\(number)"))
                            return "77\(number)"
                        }
                    } catch { return "\(error)" }
                }
            }
            return await group.reduce(into: [String]()) { $0.append($1) }
        }
        let winners = outcomes.filter { $0.hasPrefix("77") }
        #expect(winners.count == 1, "\(outcomes)")
        #expect(outcomes.count { $0.contains("alreadyResolved") } == 5, "\(outcomes)")
        #expect(try await scene.phone() == winners.first)
    }
}
