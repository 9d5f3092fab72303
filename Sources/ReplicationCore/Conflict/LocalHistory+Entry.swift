extension LocalHistory {
    struct ColumnWrite: Sendable, Equatable {
        /// `SplitTable.SharedColumn.id`.
        var column: Int
        var mark: WriteMark
        /// Kept where the policy needs it; else, and for NULL, `nil`.
        var value: [UInt8]?
    }

    /// What other rows know a row by, as the side's stream had it.
    public struct Number: Sendable, Equatable {
        public let bytes: [UInt8]
        /// The column's type at that time; by now it may be another.
        public let typeOID: UInt32
    }

    struct Deletion: Sendable, Equatable {
        var mark: WriteMark
        /// The row got this key.
        var newKey: RowKey?
        var isMove: Bool { newKey != nil }
        /// The other side has deleted the same generation of the row, too.
        var isMatched = false
        /// What other rows knew the row by, if they did, and this side itself has deleted it.
        var number: Number?
    }

    /// What a side did to one row, or a later part of it: then it goes on from what an older run says.
    struct Entry: Sendable, Equatable {
        var deletions: [Deletion] = []
        /// The latest write of each column in the row's present generation.
        var writes: [ColumnWrite] = []
        /// The writes in older parts, which go up to this LSN, have ended with their generation.
        var clearedLSN: LSN?
        /// Deletions in older runs that the other side was found to have made, too.
        var matched: [OperationID] = []

        var isEmpty: Bool { deletions.isEmpty && writes.isEmpty && clearedLSN == nil && matched.isEmpty }

        /// Memory that hangs on it, roughly.
        var contentBytes: Int {
            var bytes = 3 * 32 + matched.count * MemoryLayout<OperationID>.stride
            for deletion in deletions {
                bytes += MemoryLayout<Deletion>.stride
                bytes += deletion.newKey.map { $0.bytes.count + 32 } ?? 0
                bytes += deletion.number.map { $0.bytes.count + 32 } ?? 0
            }
            for write in writes {
                bytes += MemoryLayout<ColumnWrite>.stride
                bytes += write.value.map { $0.count + 32 } ?? 0
            }
            return bytes
        }

        mutating func forget(before lsn: LSN) {
            deletions.removeAll { $0.mark.id.commitLSN < lsn }
            writes.removeAll { $0.mark.id.commitLSN < lsn }
            matched.removeAll { $0.commitLSN < lsn }
            if let cleared = clearedLSN, cleared < lsn { clearedLSN = nil }
        }

        mutating func end(_ deletion: Deletion) {
            writes.removeAll()
            // In older layers and runs as well.
            clearedLSN = deletion.mark.id.commitLSN
            deletions.append(deletion)
        }

        mutating func note(_ write: ColumnWrite) {
            if let known = writes.firstIndex(where: { $0.column == write.column }) {
                writes[known] = write
            } else {
                writes.append(write)
            }
        }

        /// Takes in what followed; what that says of what is older still holds.
        mutating func goOn(with newer: Entry) {
            if !newer.matched.isEmpty {
                // A row that comes and goes through a long backlog has thousands of both.
                var older = Set(newer.matched)
                for index in deletions.indices where older.remove(deletions[index].mark.id) != nil {
                    deletions[index].isMatched = true
                }
                matched += newer.matched.filter(older.contains)
            }
            if let cleared = newer.clearedLSN {
                writes.removeAll()
                clearedLSN = max(clearedLSN ?? .zero, cleared)
            }
            deletions += newer.deletions
            for write in newer.writes { note(write) }
        }

        // MARK: in a file

        func put(into writer: inout SpillWriter) {
            writer.put(clearedLSN?.rawValue ?? 0)
            writer.put(UInt32(truncatingIfNeeded: deletions.count))
            for deletion in deletions {
                Self.put(deletion.mark, into: &writer)
                let flags =
                    (deletion.isMatched ? 1 : 0) + (deletion.isMove ? 2 : 0)
                    + (deletion.number == nil ? 0 : 4)
                writer.put(UInt8(flags))
                if let newKey = deletion.newKey { newKey.put(into: &writer) }
                if let number = deletion.number {
                    writer.put(number.typeOID)
                    writer.put(number.bytes)
                }
            }
            writer.put(UInt32(truncatingIfNeeded: writes.count))
            for write in writes {
                writer.put(UInt32(truncatingIfNeeded: write.column))
                Self.put(write.mark, into: &writer)
                writer.put(UInt8(write.value == nil ? 0 : 1))
                if let value = write.value { writer.put(value) }
            }
            writer.put(UInt32(truncatingIfNeeded: matched.count))
            for id in matched {
                writer.put(id.commitLSN.rawValue)
                writer.put(UInt64(id.position))
            }
        }

        init() {}

        init(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) {
            let cleared = try cursor.takeLSN()
            clearedLSN = cleared == .zero ? nil : cleared
            for _ in 0..<(try cursor.takeCount()) {
                let mark = try Self.takeMark(&cursor)
                let flags = try cursor.take(UInt8.self)
                var deletion = Deletion(mark: mark, isMatched: flags & 1 != 0)
                if flags & 2 != 0 { deletion.newKey = try RowKey(&cursor) }
                if flags & 4 != 0 {
                    let typeOID = try cursor.take(UInt32.self)
                    deletion.number = Number(bytes: try cursor.takeBlock(), typeOID: typeOID)
                }
                deletions.append(deletion)
            }
            for _ in 0..<(try cursor.takeCount()) {
                let column = try cursor.takeCount()
                let mark = try Self.takeMark(&cursor)
                let hasValue = try cursor.take(UInt8.self) != 0
                let value = hasValue ? try cursor.takeBlock() : nil
                writes.append(ColumnWrite(column: column, mark: mark, value: value))
            }
            for _ in 0..<(try cursor.takeCount()) { matched.append(try Self.takeID(&cursor)) }
        }

        private static func put(_ mark: WriteMark, into writer: inout SpillWriter) {
            writer.put(
                (
                    mark.id.commitLSN.rawValue, UInt64(mark.id.position),
                    UInt64(bitPattern: mark.commitTime.microseconds),
                    UInt64(bitPattern: mark.effectiveTime.microseconds)
                ))
        }

        private static func takeMark(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) -> WriteMark {
            WriteMark(
                id: try takeID(&cursor), commitTime: try cursor.takeTime(),
                effectiveTime: try cursor.takeTime())
        }

        private static func takeID(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) -> OperationID {
            OperationID(commitLSN: try cursor.takeLSN(), position: Int(try cursor.take(UInt64.self)))
        }
    }
}

extension RowKey {
    func put(into writer: inout SpillWriter) {
        writer.put(UInt32(truncatingIfNeeded: table))
        writer.put(bytes)
    }

    init(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) {
        self.init(table: try cursor.takeCount(), bytes: try cursor.takeBlock())
    }
}
