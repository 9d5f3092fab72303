import PostgresClient
import ReplicationCore

/// What a person has to do about a table of a split that is not the same one on both sides any more.
struct SplitNameFailure {
    /// Reads the origin.
    let forward: DirectionSettings

    private func name(_ side: Side) -> String { side == .origin ? forward.sourceName : forward.targetName }

    func words(_ problem: SplitNames.Problem) -> ReplicationFailure {
        let goesOn = "then `lindero run`; it goes on where it stopped. What is on its way is told by the table, whatever it was called."
        switch problem {
        case .namedApart(let table, let names):
            let calls = Side.allCases.map { "\(names[$0]) on \(name($0))" }.joined(separator: " and ")
            return failure("Table \(table) of the split is called \(calls) by now.", "Give it one name on both sides, and in lindero.yaml, \(goesOn)")
        case .unlisted(let table, let now):
            return failure(
                "Table \(table) of the split is called \(now) on both sides by now, and what lindero.yaml said at the start was \(table).",
                "Where lindero.yaml names it, call it \(now), \(goesOn)")
        case .taken(let table, let now):
            return failure(
                "Table \(table) of the split is called \(now) on both sides by now, as another one was that takes part, or did.",
                "Give it another name on both sides, and in lindero.yaml, \(goesOn)")
        case .exchanged(let table, let side, let other):
            return failure(
                "On \(name(side)) the split's tables have changed names: \(table) is the one that was \(other).",
                "Give them back on \(name(side)) (and on the other side, where they were exchanged, too), \(goesOn) To exchange names for good: with "
                    + "those of before `lindero rollback --execute`, then on both sides, then `lindero advance --to split --execute`.")
        case .replaced(let table, let side, let oid, let now):
            return replaced(table, side, by: oid, now: now, goesOn)
        case .gone(let table, let side):
            return failure(
                "Table \(table) of the split is gone from \(name(side)).",
                "Take it out of lindero.yaml; or make it anew there, then `lindero run`, which says what to do next.")
        }
    }

    private func replaced(_ table: QualifiedName, _ side: Side, by oid: UInt32, now: QualifiedName?, _ goesOn: String) -> ReplicationFailure {
        let former = now.map { "which is \($0) there by now" } ?? "which is gone"
        let back = now == nil ? "" : "To go on with the former one: give it its name back there, \(goesOn) "
        return failure(
            "On \(name(side)) another table has the name of \(table) than took part in the split, \(former).",
            back + "To have the new one take its place: run on \(forward.targetName): \(Self.noting(oid, table, side, forward, isPresent: true)) Then "
                + "`lindero run`, and beside it `lindero verify \(table) --repair`, which names what one side has and the other lacks.")
    }

    /// The statement that has a table of a side count as one of the split's: as the present one, or as a former one.
    static func noting(_ oid: UInt32, _ table: QualifiedName, _ side: Side, _ forward: DirectionSettings, isPresent: Bool) -> String {
        let values = [forward.name, table.schema, table.name].map(SQLText.literal)
        let column = SplitIdentity.column(side)
        let oids = isPresent ? "\(column) || \(oid)::oid" : "\(oid)::oid || \(column)"
        return "UPDATE lindero.split_table SET \(column) = \(oids) WHERE direction = \(values[0]) AND (schema_name, table_name) = "
            + "(\(values[1]), \(values[2]));"
    }

    private func failure(_ message: String, _ next: String) -> ReplicationFailure {
        ReplicationFailure(
            .tableRenamed, "\(message) A change would go to another table's rows, or to none.", nextStep: next, isBlocker: true)
    }
}
