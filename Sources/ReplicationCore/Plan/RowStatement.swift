/// The SQL that applies one row change exactly: the path that works for every type and every key.
public struct RowStatement: Sendable, Equatable {
    /// What decides a statement's text: equal shapes share a prepared statement.
    public struct Shape: Sendable, Hashable {
        public var kind: Change.Kind
        /// Columns written, as indexes into `RelationPlan.columns`.
        public var written: [Int]
        /// Columns compared, as indexes into `RelationPlan.columns`.
        public var compared: [Int]
        /// Whether the comparison has to find NULLs, and one of several equal rows.
        public var isWholeRow: Bool
        /// Whether an update or delete itself fails (22012) unless it reaches one row.
        public var isGuarded = false

        init(kind: Change.Kind, written: [Int], compared: [Int], isWholeRow: Bool) {
            self.kind = kind
            self.written = written
            self.compared = compared
            self.isWholeRow = isWholeRow
        }

        /// What a bulk statement does, for one row that must be there.
        public init(one shape: BulkStatement.Shape, plan: RelationPlan) {
            self.init(
                kind: shape.kind, written: shape.written, compared: shape.kind == .insert ? [] : plan.keyColumns,
                isWholeRow: false)
            isGuarded = true
        }
    }

    public var sql: String
    /// OIDs of `$1…`: first the written columns, then the compared ones.
    public var parameterTypes: [UInt32]

    /// - Parameter precedingCount: parameters of the same statement that come before its own.
    public init(shape: Shape, plan: RelationPlan, precedingCount: Int = 0) {
        var types: [UInt32] = []
        func parameter(_ column: Int) -> String {
            types.append(plan.columns[column].typeOID)
            return "$\(precedingCount + types.count)"
        }
        let table = plan.table.sql
        let values = shape.written.map { (SQLText.identifier(plan.columns[$0].name), parameter($0)) }
        let comparisons = shape.compared.map { index in
            let name = SQLText.identifier(plan.columns[index].name)
            guard shape.isWholeRow else { return "\(name) \(plan.columns[index].equality) \(parameter(index))" }
            // As bytes: some types have no equality, others one that lives elsewhere or takes different values as equal.
            guard let type = plan.columns[index].typeName else { return "\(name) IS NOT DISTINCT FROM \(parameter(index))" }
            return "pg_catalog.record_image_eq(ROW(\(name)::\(type)), ROW(\(parameter(index))))"
        }.joined(separator: " AND ")
        // Nothing to compare finds no row, rather than any: only of a table without columns are all rows the same.
        let condition = !comparisons.isEmpty ? comparisons : plan.sourceWidth == 0 ? "true" : "false"
        // Without a key, equal rows cannot be told apart; exactly one of them is changed.
        let found =
            shape.isWholeRow
            ? "(tableoid, ctid) = (SELECT tableoid, ctid FROM \(plan.onlyTable) WHERE \(condition) LIMIT 1)"
            : condition
        switch shape.kind {
        case .insert:
            let names = values.map(\.0).joined(separator: ", ")
            let parameters = values.map(\.1).joined(separator: ", ")
            sql =
                values.isEmpty
                ? "INSERT INTO \(table) DEFAULT VALUES"
                : "INSERT INTO \(table) (\(names)) OVERRIDING SYSTEM VALUE VALUES (\(parameters))"
        case .update:
            let assignments = values.map { "\($0.0) = \($0.1)" }.joined(separator: ", ")
            sql = "UPDATE \(plan.onlyTable) SET \(assignments) WHERE \(found)"
        case .delete:
            sql = "DELETE FROM \(plan.onlyTable) WHERE \(found)"
        case .truncate:
            sql = ""
        }
        parameterTypes = types
        if shape.isGuarded, shape.kind == .update || shape.kind == .delete {
            sql = "WITH done AS (\(sql) RETURNING 1) "
                + "SELECT 1 / (pg_catalog.count(*) OPERATOR(pg_catalog.=) 1)::int FROM done"
        }
    }

    /// `TRUNCATE` of the tables as one statement, so that foreign keys among them don't matter.
    ///
    /// `CASCADE` is not repeated: the source lists every table it reached, and a table that only the target has
    /// must not be emptied from afar.
    ///
    /// - Parameter tables: as `RelationPlan.onlyTable` names them.
    public static func truncate(_ tables: [String], restartsIdentity: Bool) -> String {
        "TRUNCATE " + tables.joined(separator: ", ") + (restartsIdentity ? " RESTART IDENTITY" : "")
    }
}
