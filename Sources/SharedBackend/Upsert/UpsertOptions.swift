/// Form of the input.
public enum UpsertFormat: String, Sendable, CaseIterable {
    /// One JSON object a line; keys are column names.
    case ndjson
    /// RFC 4180 with a header line. An empty field is NULL, a quoted empty field (`""`) the empty string.
    /// A quote that does not begin a field is a quote.
    case csv
}

/// Bounds of an upsert.
public struct UpsertOptions: Sendable {
    /// Records of one transaction.
    public var batchRecords = 500
    /// Input bytes after which a batch is closed early.
    public var batchBytes = 8 << 20
    /// A longer record is refused.
    public var recordBytes = 256 << 20
    public var statementTimeoutMilliseconds = 30_000
    /// How often one batch is tried before its transient error is thrown.
    public var attempts = 10

    public init() {}
}

/// An upsert that had to stop. What is committed stays, and running it again is harmless.
public struct UpsertInterruption: Error, Sendable {
    /// What is committed.
    public var summary: UpsertSummary
    /// Everything before this line is committed or refused, nothing from there on; `nil` if that is not known.
    public var lineNumber: Int?
    public var cause: any Error
}

/// Why an upsert could not run.
public enum UpsertFailure: Error, Sendable, Equatable, CustomStringConvertible {
    case unknownSide(String, sides: [String])
    case noMatchKey(table: String)
    /// The header of a CSV file does not fit; no record was read.
    case header(UpsertRefusal)

    public var description: String {
        switch self {
        case .unknownSide(let side, let sides):
            "\"\(side)\" owns nothing here. Sides are \(sides.joined(separator: ", "))."
        case .noMatchKey(let table):
            "Table \"\(table)\" has no key to match rows by. Set match: in lindero.yaml."
        case .header(let refusal): "CSV header, \(refusal)."
        }
    }
}
