/// A row's key: its columns in text form, in the order of `VerifyTable.key`.
///
/// Compared by bytes, as PostgreSQL does: to Swift's strings an é in one code point and one in two are the same.
public struct VerifyKey: Sendable, Hashable {
    public var values: [String]

    public init(_ values: [String]) { self.values = values }

    public static func == (a: VerifyKey, b: VerifyKey) -> Bool {
        a.values.count == b.values.count && zip(a.values, b.values).allSatisfy { $0.utf8.elementsEqual($1.utf8) }
    }

    public func hash(into hasher: inout Hasher) {
        for value in values {
            for byte in value.utf8 { hasher.combine(byte) }
            // No text in UTF-8 has it.
            hasher.combine(UInt8.max)
        }
    }
}

/// A stretch of keys in one side's order: everything after `lower` up to and with `upper`; `nil` is without a limit.
public struct KeyRange: Sendable, Hashable {
    public var lower: VerifyKey?
    public var upper: VerifyKey?

    public init(after lower: VerifyKey?, through upper: VerifyKey?) {
        self.lower = lower
        self.upper = upper
    }
}

/// What a side says of all rows in a stretch together.
public struct ChunkDigest: Sendable, Equatable {
    public var rows: Int
    /// Sum of the rows' hashes, in text form: it is larger than any integer.
    public var sum: String
    /// Of the rows' text forms.
    public var bytes: Int

    public init(rows: Int, sum: String, bytes: Int) {
        self.rows = rows
        self.sum = sum
        self.bytes = bytes
    }

    /// Whether both sides hold the same rows.
    public func matches(_ other: ChunkDigest) -> Bool { rows == other.rows && sum == other.sum }
}

/// A row as a list of a stretch tells it.
public struct HashedRow: Sendable, Equatable {
    public var key: VerifyKey
    public var hash: String

    public init(key: VerifyKey, hash: String) {
        self.key = key
        self.hash = hash
    }
}

/// Narrows a stretch that differs down to the keys that need another look.
public enum RowComparison {
    /// Keys that only one list has, or that have another hash in each; in the order of the lists, the first one's first.
    public static func candidates(_ first: [HashedRow], _ second: [HashedRow]) -> [VerifyKey] {
        var others: [VerifyKey: String] = [:]
        for row in second { others[row.key] = row.hash }
        var candidates: [VerifyKey] = []
        for row in first where others.removeValue(forKey: row.key) != row.hash { candidates.append(row.key) }
        for row in second where others[row.key] != nil { candidates.append(row.key) }
        return candidates
    }
}
