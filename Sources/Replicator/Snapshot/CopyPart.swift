import ReplicationCore

/// What one job copies in one transaction: a whole table, or a stretch of blocks of one heap.
struct CopyPart: Sendable {
    struct Stretch: Sendable {
        var heap: Heap
        var blocks: Range<Int>
        /// Of the table, when it was planned.
        var shape: String
    }

    var table: TableDescription
    /// `nil` for the whole table, partitions included.
    var stretch: Stretch?
    /// On the source's disk, without indexes.
    var sizeBytes: Int
}

/// A table's own storage on the source: an ordinary table's, or one partition's.
struct Heap: Sendable, Equatable {
    var oid: UInt32
    var name: QualifiedName
    var blocks: Int
}

extension Heap {
    /// What is left of the heap in pieces of at most `chunkBlocks`.
    func rest(without done: [Range<Int>], chunkBlocks: Int) -> [Range<Int>] {
        var gaps: [Range<Int>] = []
        var start = 0
        for range in done.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.upperBound > start {
            if range.lowerBound > start { gaps.append(start..<min(range.lowerBound, max(start, blocks))) }
            start = range.upperBound
        }
        if start < blocks { gaps.append(start..<blocks) }
        return gaps.flatMap { gap in
            stride(from: gap.lowerBound, to: gap.upperBound, by: max(1, chunkBlocks)).map {
                $0..<min($0 + max(1, chunkBlocks), gap.upperBound)
            }
        }
    }
}

/// The columns that a table's copy carries, and how.
struct CopyColumns: Sendable {
    var names: [String]
    /// Whether every value means the same on both sides in its binary form.
    var isBinary: Bool

    init(_ table: TableDescription, to destination: TableDescription, settings: DirectionSettings) {
        let columns = table.columns.filter { column in
            !column.isGenerated && settings.travels(table.name, column.name)
                && destination.column(column.name)?.isGenerated == false
        }
        names = columns.map(\.name)
        isBinary = columns.allSatisfy { column in
            destination.column(column.name).map { TypeCompatibility.isBinarySafe(source: column, target: $0) } ?? false
        }
    }

    var list: String { SQLText.list(names) }
    var format: String { isBinary ? " (FORMAT binary)" : "" }

    func source(of part: CopyPart) -> String {
        if let stretch = part.stretch {
            return "COPY (SELECT \(list) FROM ONLY \(stretch.heap.name.sql) WHERE \(Self.condition(stretch.blocks))) TO STDOUT\(format)"
        }
        // A partitioned root holds no rows itself; a query through it reads its partitions.
        let isQuery = names.isEmpty || part.table.kind == .partitioned
        let rows = isQuery ? "(SELECT \(list) FROM \(part.table.name.sql))" : "\(part.table.name.sql) (\(list))"
        return "COPY \(rows) TO STDOUT\(format)"
    }

    func target(of table: QualifiedName) -> String {
        "COPY \(table.sql)\(names.isEmpty ? "" : " (\(list))") FROM STDIN\(format)"
    }

    /// The server reads just these blocks for it.
    static func condition(_ blocks: Range<Int>) -> String {
        "(ctid >= '(\(blocks.lowerBound),0)'::pg_catalog.tid AND ctid < '(\(blocks.upperBound),0)'::pg_catalog.tid)"
    }
}
