/// Cuts the input into records as bytes arrive; holds one record and one read at most.
struct RecordSplitter {
    struct Record: Sendable {
        /// Where it begins, 1-based.
        var lineNumber: Int
        /// Without the line's end; empty when it was too long.
        var bytes: [UInt8]
        var isTooLong = false
    }

    let format: UpsertFormat
    let limitBytes: Int
    private var current: [UInt8] = []
    private var line = 1
    private var startLine = 1
    private var isInQuotes = false
    private var isTooLong = false

    init(format: UpsertFormat, limitBytes: Int) {
        self.format = format
        self.limitBytes = limitBytes
    }

    /// Takes bytes; the records that they complete.
    mutating func add(_ bytes: [UInt8]) -> [Record] {
        var records: [Record] = []
        for byte in bytes {
            if byte == 10 {
                line += 1
                // A quoted CSV field may go over lines.
                if !isInQuotes {
                    if let record = close() { records.append(record) }
                    continue
                }
            }
            if format == .csv && byte == UInt8(ascii: "\"") { isInQuotes.toggle() }
            if current.count < limitBytes { current.append(byte) } else { isTooLong = true }
        }
        return records
    }

    /// The last record, when the input does not end with a line's end.
    mutating func finish() -> Record? {
        line += 1
        return close()
    }

    private mutating func close() -> Record? {
        defer {
            current.removeAll(keepingCapacity: true)
            startLine = line
            isTooLong = false
        }
        if current.last == 13 { current.removeLast() }
        guard isTooLong || current.contains(where: { ![32, 9].contains($0) }) else { return nil }
        return Record(lineNumber: startLine, bytes: isTooLong ? [] : current, isTooLong: isTooLong)
    }
}

/// One CSV record's fields.
enum CSVRecord {
    /// RFC 4180. An empty field is NULL, a quoted empty one the empty string; `nil` when quotes do not match.
    static func fields(of bytes: [UInt8]) -> [String?]? {
        var fields: [String?] = []
        var current: [UInt8] = []
        var wasQuoted = false
        var isInQuotes = false
        var index = 0
        func field() -> String? { current.isEmpty && !wasQuoted ? nil : String(decoding: current, as: UTF8.self) }
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            if isInQuotes {
                if byte != UInt8(ascii: "\"") {
                    current.append(byte)
                } else if index < bytes.count, bytes[index] == byte {
                    current.append(byte)
                    index += 1
                } else {
                    isInQuotes = false
                }
            } else if byte == UInt8(ascii: "\"") {
                guard current.isEmpty && !wasQuoted else { return nil }
                (isInQuotes, wasQuoted) = (true, true)
            } else if byte == UInt8(ascii: ",") {
                fields.append(field())
                current.removeAll(keepingCapacity: true)
                wasQuoted = false
            } else {
                guard !wasQuoted else { return nil }
                current.append(byte)
            }
        }
        guard !isInQuotes else { return nil }
        fields.append(field())
        return fields
    }
}
