/// Cuts the input into records as bytes arrive; holds one record and one read at most.
struct RecordSplitter {
    struct Record: Sendable {
        /// Where it begins, 1-based.
        var lineNumber: Int
        /// Without the line's end; empty when it was too long.
        var bytes: [UInt8]
        var isTooLong = false
    }

    /// Where the next byte of CSV stands. A quote opens a quoted field at the field's start only.
    private enum Place { case fieldStart, unquoted, quoted, afterQuoted }

    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

    let format: UpsertFormat
    let limitBytes: Int
    private var current: [UInt8] = []
    private var line = 1
    private var startLine = 1
    private var place = Place.fieldStart
    /// Bytes of a byte order mark that were met at the input's start; `nil` after it.
    private var markBytes: Int? = 0
    private var isTooLong = false

    init(format: UpsertFormat, limitBytes: Int) {
        self.format = format
        self.limitBytes = limitBytes
    }

    /// Takes bytes; the records that they complete.
    mutating func add(_ bytes: [UInt8]) -> [Record] {
        var records: [Record] = []
        for byte in bytes {
            if let matched = markBytes {
                if byte == Self.byteOrderMark[matched] {
                    markBytes = matched + 1 < Self.byteOrderMark.count ? matched + 1 : nil
                    continue
                }
                keepMark()
            }
            if byte == 10 {
                line += 1
                // A quoted CSV field may go over lines.
                if place != .quoted {
                    if let record = close() { records.append(record) }
                    continue
                }
            }
            if format == .csv { place = next(byte) }
            if current.count < limitBytes { current.append(byte) } else { isTooLong = true }
        }
        return records
    }

    /// The last record, when the input does not end with a line's end.
    mutating func finish() -> Record? {
        keepMark()
        line += 1
        return close()
    }

    /// What began like a byte order mark is none.
    private mutating func keepMark() {
        if let matched = markBytes, matched > 0 {
            current += Self.byteOrderMark.prefix(matched)
            place = .unquoted
        }
        markBytes = nil
    }

    private func next(_ byte: UInt8) -> Place {
        switch (place, byte) {
        case (.quoted, UInt8(ascii: "\"")): .afterQuoted
        case (.quoted, _): .quoted
        // A doubled quote, or the start of a field.
        case (.afterQuoted, UInt8(ascii: "\"")), (.fieldStart, UInt8(ascii: "\"")): .quoted
        case (_, UInt8(ascii: ",")): .fieldStart
        default: .unquoted
        }
    }

    private mutating func close() -> Record? {
        defer {
            current.removeAll(keepingCapacity: true)
            startLine = line
            place = .fieldStart
            isTooLong = false
        }
        if current.last == 13 { current.removeLast() }
        guard isTooLong || current.contains(where: { ![32, 9].contains($0) }) else { return nil }
        return Record(lineNumber: startLine, bytes: isTooLong ? [] : current, isTooLong: isTooLong)
    }
}
