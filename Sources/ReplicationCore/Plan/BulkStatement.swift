/// One statement that applies many rows of one table: arrays in, one row of each array per change.
public struct BulkStatement: Sendable {
    /// What decides the statement's text: equal shapes share a prepared statement.
    public struct Shape: Sendable, Hashable {
        public var kind: Change.Kind
        /// Index of the table's definition in the stream's `RelationHistory`.
        public var definition: Int
        /// Columns written, as indexes into `RelationPlan.columns`.
        public var written: [Int]
        /// Whether the statement itself fails (22012) unless it reaches as many rows as its last parameter says.
        public var isGuarded = false
    }

    public var shape: Shape
    public var rows: [RowSource]

    /// `COPY` that inserts the written columns from binary rows.
    public static func copySQL(shape: Shape, plan: RelationPlan) -> String {
        let names = shape.written.map { SQLText.identifier(plan.columns[$0].name) }.joined(separator: ", ")
        return "COPY \(plan.table.sql) (\(names)) FROM STDIN (FORMAT binary)"
    }

    /// Statement text and array types: `$1…` are the written columns, then the key's, then the guard's count.
    public static func sql(shape: Shape, plan: RelationPlan) -> (text: String, parameterTypes: [UInt32]) {
        let (text, types) = statement(shape, plan)
        guard shape.isGuarded else { return (text, types) }
        let bigint: UInt32 = 20
        return (
            "WITH done AS (\(text) RETURNING 1) "
                + "SELECT 1 / (pg_catalog.count(*) OPERATOR(pg_catalog.=) $\(types.count + 1))::int FROM done",
            types + [bigint]
        )
    }

    private static func statement(_ shape: Shape, _ plan: RelationPlan) -> (text: String, parameterTypes: [UInt32]) {
        let key = plan.keyColumns
        let columns = shape.kind == .insert ? shape.written : shape.written + key
        let types = columns.map { plan.columns[$0].arrayOID }
        let table = plan.table.sql
        func name(_ column: Int) -> String { SQLText.identifier(plan.columns[column].name) }
        // Side by side in the target list the arrays are read row by row; in FROM they would be stored first.
        let arrays = columns.enumerated().map { position, column in
            let cast = plan.columns[column].elementCast.map { "::\($0)" } ?? ""
            return "pg_catalog.unnest($\(position + 1))\(cast) AS v\(position)"
        }.joined(separator: ", ")
        let rows = "(SELECT \(arrays)) AS s"
        let found = key.enumerated().map { offset, column in
            "t.\(name(column)) \(plan.columns[column].equality) s.v\(shape.written.count + offset)"
        }.joined(separator: " AND ")
        switch shape.kind {
        case .insert:
            let names = columns.map(name).joined(separator: ", ")
            return (
                "INSERT INTO \(table) (\(names)) OVERRIDING SYSTEM VALUE SELECT \(arrays)", types
            )
        case .update:
            let values = shape.written.enumerated().map { "\(name($1)) = s.v\($0)" }.joined(separator: ", ")
            return ("UPDATE \(plan.onlyTable) AS t SET \(values) FROM \(rows) WHERE \(found)", types)
        case .delete:
            return ("DELETE FROM \(plan.onlyTable) AS t USING \(rows) WHERE \(found)", types)
        case .truncate:
            return ("", [])
        }
    }
}

extension RelationPlan {
    /// The columns that find a row; every column when there is no key.
    public var keyColumns: [Int] {
        switch identity {
        case .key(let key): key
        case .wholeRow: Array(columns.indices)
        }
    }
}

/// Where a row's cells are: in a chunk's tuple, or put together from several.
public struct RowSource: Sendable, Equatable {
    /// Index of the chunk in the group; -1 for a row in `GroupPlan.mergedRows`.
    public var chunk: Int32
    /// Half the width: a group has two of these for each row, and what the planner holds should fit the caches. A chunk has
    /// fewer cells than bytes, and a message of the protocol is below 2 GB.
    private var place: Int32

    /// First cell of the tuple, or index of the merged row.
    public var first: Int { Int(place) }

    public init(chunk: Int32, first: Int) {
        self.chunk = chunk
        place = Int32(first)
    }

    var isMerged: Bool { chunk < 0 }
}

/// One cell anywhere in a group.
public struct CellLocation: Sendable, Equatable {
    public var chunk: Int32
    public var cell: Int
}

/// What to do with a group of chunks, in order.
public struct GroupPlan: Sendable {
    public enum Step: Sendable {
        case bulk(BulkStatement)
        /// A change that must be applied alone, as the source made it.
        case row(chunk: Int, change: Int, transaction: Int)
    }

    public var steps: [Step] = []
    /// What touches no row of the group before this one, and may be done while that is at work; the other steps follow it.
    public var free: [Step] = []
    /// Which rows the whole of it touches; everything, where nobody has asked.
    public var footprint = GroupFootprint.everything
    /// Rows whose cells come from several tuples, cell by cell in the source's column order.
    public var mergedRows: [[CellLocation]] = []
    /// Every definition that was changed and has a plan, also where nothing is left to do.
    public var definitions: [Int] = []
    /// Source changes that the steps stand for.
    public var changeCount = 0
    public var ignoredCount = 0
    public var withheldCount = 0

    public init() {}

    /// Where a row's cell is.
    public func location(_ row: RowSource, sourceIndex: Int) -> CellLocation {
        row.isMerged
            ? mergedRows[row.first][sourceIndex] : CellLocation(chunk: row.chunk, cell: row.first + sourceIndex)
    }

    /// Bytes of one value.
    public func sizeBytes(of row: RowSource, sourceIndex: Int, chunks: [ChangeChunk]) -> Int {
        let location = location(row, sourceIndex: sourceIndex)
        return Int(chunks[Int(location.chunk)].arena.cells[location.cell].length)
    }
}
