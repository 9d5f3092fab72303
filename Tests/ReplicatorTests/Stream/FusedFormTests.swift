import PostgresClient
import Testing

@testable import ReplicationCore
@testable import Replicator

/// What a known form must not outlive, and what must not have one.
@Suite struct FusedFormTests {
    private func insert(_ relation: Int, hasUnchanged: Bool = false) -> Change {
        Change(kind: .insert, relation: relation, new: TupleReference(firstCell: 0, count: 1, hasUnchanged: hasUnchanged))
    }

    private func parts(_ relation: Int) -> [FusedStatement.Part] {
        let shape = RowStatement.Shape(kind: .insert, written: [0], compared: [], isWholeRow: false)
        return [FusedStatement.Part(definition: relation, shape: shape)]
    }

    private func name(_ relation: Int, _ cache: inout StatementCache, _ batch: inout StepBatch) throws -> String {
        try #require(cache.name(for: parts(relation), plans: [], atOnce: true, batch: &batch))
    }

    private func keep(_ relation: Int, _ cache: inout StatementCache, _ batch: inout StepBatch) throws {
        let name = try name(relation, &cache, &batch)
        let form = FusedForm(
            [insert(relation)], cells: [[0]], parts: parts(relation), name: name, counters: ApplyCounters(), copiedUpTo: .zero)
        cache.keep(try #require(form))
    }

    /// The server knows no more than so many; whose turn it is has nothing to do with when a form was made.
    @Test func aFormEndsWithItsStatement() throws {
        var (cache, batch) = (StatementCache(), StepBatch())
        for relation in 0..<StatementCache.fusedLimit { try keep(relation, &cache, &batch) }
        // Used by its form alone, the oldest is not the oldest any more.
        #expect(cache.form(of: [insert(0)]) != nil)
        _ = try name(1_000, &cache, &batch)
        let forms = (0..<StatementCache.fusedLimit).filter { cache.form(of: [insert($0)]) != nil }
        #expect(forms == [0] + Array(9..<StatementCache.fusedLimit))
        let steps = batch.steps(writing: [], then: []).count
        for relation in forms { #expect(try name(relation, &cache, &batch) == cache.form(of: [insert(relation)])?.name) }
        #expect(batch.steps(writing: [], then: []).count == steps, "every form's statement is still prepared")
        cache.forget()
        #expect(cache.form(of: [insert(0)]) == nil)
    }

    /// A form that gives way leaves its statement as recent as it was.
    @Test func aFormThatGivesWayHandsOnItsUse() throws {
        var (cache, batch) = (StatementCache(), StepBatch())
        for relation in 0..<StatementCache.fusedLimit { try keep(relation, &cache, &batch) }
        for relation in 0..<10 { _ = cache.form(of: [insert(relation)]) }
        // Other forms of a few statements: as one with a change of an ignored table before it.
        for number in 0..<StatementCache.fusedLimit {
            let form = FusedForm(
                [insert(2_000 + number), insert(63)], cells: [[], [0]], parts: parts(63), name: "x", counters: ApplyCounters(), copiedUpTo: .zero)
            cache.keep(try #require(form))
        }
        #expect(cache.form(of: [insert(0)]) == nil)
        let steps = { batch.steps(writing: [], then: []).count }
        _ = try name(1_000, &cache, &batch)
        let before = steps()
        for relation in 0..<10 { _ = try name(relation, &cache, &batch) }
        #expect(steps() == before, "none of them had to be prepared again")
    }

    @Test func whatAValueDecidesHasNoForm() throws {
        let whole = TupleReference(firstCell: 0, count: 1)
        let new = TupleReference(firstCell: 1, count: 1)
        let part = TupleReference(firstCell: 0, count: 1, hasUnchanged: true)
        for change in [
            insert(1, hasUnchanged: true), Change(kind: .update, relation: 1, new: part),
            Change(kind: .update, relation: 1, old: OldTuple(kind: .full, tuple: whole), new: new),
            Change(kind: .delete, relation: 1, old: OldTuple(kind: .full, tuple: whole)), Change(kind: .truncate, relation: 0),
        ] {
            let form = FusedForm([change], cells: [[0]], parts: parts(1), name: "a", counters: ApplyCounters(), copiedUpTo: .zero)
            #expect(form == nil, "\(change)")
        }
        let form = FusedForm(
            [Change(kind: .update, relation: 1, new: whole)], cells: [[0]], parts: parts(1), name: "a", counters: ApplyCounters(),
            copiedUpTo: .zero)
        let update = try #require(form)
        #expect(update.matches([Change(kind: .update, relation: 1, new: new)]))
        for other in [
            Change(kind: .update, relation: 1, new: part), Change(kind: .update, relation: 2, new: whole), insert(1),
            Change(kind: .update, relation: 1, old: OldTuple(kind: .key, tuple: whole), new: new),
            Change(kind: .update, relation: 1, old: OldTuple(kind: .full, tuple: whole), new: new),
        ] { #expect(!update.matches([other]), "\(other)") }
        #expect(!update.matches([Change(kind: .update, relation: 1, new: new), insert(1)]) && !update.matches([]))
    }
}
