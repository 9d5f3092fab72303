import ReplicationCore

/// One row's change in each of several tables, and the progress, as one statement: it passes the server's protocol and its
/// executor's start once, which for a small source transaction is most of what the target does.
///
/// All of it sees what stood before, in no certain order. So each table may come once, and none may have a trigger that fires.
enum FusedStatement {
    /// How many tables.
    static let tableLimit = 8
    /// How many source transactions go this way at once. The target takes about as long for four in bulk, and for more less.
    static let transactionLimit = 3

    /// How many parameters the progress takes, and about how many bytes.
    static let progressCount = 4
    static let progressBytes = 64

    struct Part: Hashable, Sendable {
        /// Index of the table's definition in the stream's `RelationHistory`.
        var definition: Int
        var shape: RowStatement.Shape
    }

    /// Statement text and the types of `$1…`: those of the parts in turn, then the progress's own. It fails (22012) unless every
    /// update and delete reaches one row, and the direction's own row is there, without which the direction would lose its place,
    /// and shows the place that it was sent behind, if it was.
    ///
    /// - Parameter parts: none for the progress alone.
    /// - Parameter plans: of the parts' tables.
    static func sql(_ parts: [Part], plans: [RelationPlan]) -> (text: String, parameterTypes: [UInt32]) {
        var types: [UInt32] = []
        var steps: [String] = []
        var reached: [String] = []
        for (number, (part, plan)) in zip(parts, plans).enumerated() {
            var shape = part.shape
            shape.isGuarded = false
            let statement = RowStatement(shape: shape, plan: plan, precedingCount: types.count)
            types += statement.parameterTypes
            let isInsert = shape.kind == .insert
            steps.append("c\(number) AS (\(statement.sql)\(isInsert ? "" : " RETURNING 1"))")
            if !isInsert { reached.append("c\(number)") }
        }
        let (direction, lsn, time) = ("$\(types.count + 1)", "$\(types.count + 2)", "$\(types.count + 3)")
        let behind = "$\(types.count + 4)"
        steps.append(
            "p AS (UPDATE lindero.direction SET applied_lsn = \(lsn) WHERE name = \(direction) "
                + "AND (\(behind) IS NULL OR applied_lsn OPERATOR(pg_catalog.=) \(behind)) RETURNING 1)")
        reached.append("p")
        // Each that reaches no row leaves nothing to count, each that reaches several too much.
        let text =
            "WITH \(steps.joined(separator: ", ")) SELECT 1 / (pg_catalog.count(*) OPERATOR(pg_catalog.=) 1)::int FROM (SELECT "
            + "pg_catalog.pg_replication_origin_xact_setup(\(lsn), coalesce(\(time), pg_catalog.clock_timestamp())) "
            + "FROM \(reached.joined(separator: " CROSS JOIN "))) AS done\(silence(plans))"
        return (text, types + [OID.text, OID.pgLSN, OID.timestamptz, OID.pgLSN])
    }

    /// That no trigger fires: one may have been made since the tables were planned for, as in `TargetShape`.
    ///
    /// Asked when the server plans, not each time: a trigger that is made voids the plan. Not so one of a partition, which an insert
    /// finds only as it goes.
    private static func silence(_ plans: [RelationPlan]) -> String {
        if plans.isEmpty { return "" }
        func name(_ plan: RelationPlan) -> String { "\(SQLText.literal(plan.table.sql))::pg_catalog.regclass" }
        let tables = plans.filter(\.isOrdinary).map(name)
        let trees = plans.filter { !$0.isOrdinary }.map(name)
        var conditions: [String] = []
        if !tables.isEmpty { conditions.append("lindero.fires_nothing(ARRAY[\(tables.joined(separator: ", "))])") }
        if !trees.isEmpty {
            // Each by itself, too: an ordinary table in the place of a partitioned one has no tree.
            let members = trees.map { "SELECT relid FROM pg_catalog.pg_partition_tree(\($0))" }.joined(separator: " UNION ALL ")
            conditions.append("NOT EXISTS (SELECT \(TargetShape.firingTriggers(of: [trees.joined(separator: ", "), members])))")
        }
        return " WHERE \(conditions.joined(separator: " AND "))"
    }
}
