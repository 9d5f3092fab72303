/// Which rows the references of a group mean: they are the source's own numbers.
///
/// Whose they are now the source is asked, and its history whose they were: a number passes from one row to another, and
/// a row from one key to another, which on the target may be another row's. The target's history says whether it has
/// changed that row's key itself, as of the rows of operations.
public struct ReferenceMeanings: Sendable {
    /// What rows of others know a row by, on the source.
    public struct Number: Hashable, Sendable {
        /// `SplitTable.id` of the table whose row is meant.
        public let table: Int
        public let bytes: [UInt8]

        public init(table: Int, bytes: [UInt8]) {
            self.table = table
            self.bytes = bytes
        }
    }

    private struct Meaning: Sendable {
        /// Of the operations that hold the number: the first and the last.
        var holders: ClosedRange<OperationID>
        /// What the source's row has now; `nil` where no row has the number.
        var key: RowKey?
        /// The number in the form of its own table.
        var ownBytes: [UInt8]
        /// The keys of the rows that had it before, each with the operation that ended that; in order. `nil`: none had it.
        var formerKeys: [(key: RowKey?, until: OperationID)] = []

        func key(at id: OperationID) -> RowKey? {
            if let former = formerKeys.first(where: { $0.until > id }) { return former.key }
            return key
        }
    }

    private var meanings: [Number: Meaning] = [:]
    /// Rows that are meant by the source's keys.
    private var meant: Set<RowKey> = []
    /// What the target has made of rows under those keys.
    private var former: [RowKey: [LocalHistory.FormerRow]] = [:]
    /// Every row that may be meant, by the target's keys too.
    public private(set) var rows: Set<RowKey> = []
    public var isEmpty: Bool { meanings.isEmpty }
    let rules: ReferenceRules

    public init() { self.init(rules: ReferenceRules()) }

    init(rules: ReferenceRules) { self.rules = rules }

    /// An operation holds a number.
    ///
    /// - Returns: whether the source has to be asked whose it is.
    public mutating func note(_ number: Number, in operation: RowOperation) -> Bool {
        let id = operation.referenceID
        // What it means at the end of its transaction may be asked for as well.
        let end = OperationID(commitLSN: id.commitLSN, position: .max)
        guard let known = meanings[number]?.holders else {
            meanings[number] = Meaning(holders: id...end, ownBytes: number.bytes)
            return true
        }
        meanings[number]?.holders = min(known.lowerBound, id)...max(known.upperBound, end)
        return false
    }

    /// The source says whose a number is.
    ///
    /// - Parameter ownBytes: the number in the form of its own table.
    public mutating func answer(_ number: Number, _ key: RowKey, ownBytes: [UInt8]) {
        meanings[number]?.key = key
        meanings[number]?.ownBytes = ownBytes
    }

    /// Goes back to the rows that had the numbers when they were written, and to the keys that those had.
    ///
    /// - Parameter source: read past the moment when it was asked.
    /// - Throws: what the history's storage throws.
    public mutating func goBack(in source: LocalHistory) throws {
        meant.removeAll(keepingCapacity: true)
        for (number, var meaning) in meanings {
            var former = rules.goesBack ? try source.formerKeys(ofNumber: meaning.ownBytes, in: number.table) : []
            former.removeAll { $0.until < meaning.holders.lowerBound }
            // The first that outlasted all of them is the last that any can mean.
            let last = former.firstIndex { $0.until > meaning.holders.upperBound }
            if let last { former.removeSubrange((last + 1)...) }
            meaning.formerKeys = former
            meant.formUnion(former.compactMap(\.key))
            if last == nil, let key = meaning.key { meant.insert(key) }
            meanings[number] = meaning
        }
        rows = meant
    }

    /// What following the target's history has shown.
    public struct News: Sendable {
        /// Some key may mean another row than was known.
        public var hasChanged = false
        /// Some of those rows are held by nobody.
        public var hasRows = false
    }

    /// Looks for what the target has made of the rows, where the source may not know it yet.
    ///
    /// - Throws: what the history's storage throws.
    public mutating func follow(in target: LocalHistory) throws -> News {
        var news = News()
        let known = rules.follows ? try target.formerRows(of: meant) : [:]
        if known == former { return news }
        former = known
        news.hasChanged = true
        for rows in known.values {
            for case let later? in rows.map(\.key) where self.rows.insert(later).inserted { news.hasRows = true }
        }
        return news
    }

    /// What the group's references mean at one point of it.
    ///
    /// A row that the target has moved is the source's row with the old key until the source has ended that too, which it may
    /// do in the group itself; from then on the key is another row's.
    public struct Moment: Sendable {
        fileprivate let meanings: ReferenceMeanings
        fileprivate let context: CausalContext
        /// What the target has ended, and the source too.
        fileprivate let matched: Set<OperationID>
        /// Where the group has taken rows so far.
        fileprivate let ways: [RowKey: RowKey?]

        /// The target's key of the row that a number of the source means in an operation; `nil` when one of both sides has no
        /// such row any more.
        public func key(of number: Number, in operation: RowOperation) -> RowKey? {
            guard let key = meanings.meanings[number]?.key(at: operation.referenceID) else { return nil }
            let former = meanings.former[key]?.first { former in
                !context.includes(commitLSN: former.id.commitLSN) && !matched.contains(former.id)
            }
            if let former { return former.key.flatMap { ways[$0] ?? $0 } }
            return key
        }
    }

    /// - Parameters:
    ///   - context: of the transaction that refers to rows.
    ///   - effects: of what came before in the group.
    public func moment(in context: CausalContext, after effects: GroupEffects) -> Moment {
        Moment(meanings: self, context: context, matched: effects.matched, ways: former.isEmpty ? [:] : effects.ways)
    }
}

extension RowOperation {
    /// As of when its references mean what they mean. An echo tells what a row has at the end of a transaction all of which
    /// the other side has seen.
    fileprivate var referenceID: OperationID { kind == .echo ? OperationID(commitLSN: id.commitLSN, position: .max) : id }
}
