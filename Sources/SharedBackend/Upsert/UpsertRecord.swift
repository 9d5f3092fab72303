import ReplicationCore

/// A record that may be applied as far as the table's description tells: columns exist and belong to the side.
struct UpsertRecord: Sendable {
    var lineNumber: Int
    /// In the table's order.
    var columns: [String]
    /// Text in the form that the column's type reads; `nil` is NULL.
    var values: [String?]
    /// The match columns' values.
    var key: [String]
}

/// Checks records against the table and its owners.
struct UpsertRecordReader: Sendable {
    let table: TableDescription
    let ownership: TableOwnership
    let side: String
    private let positions: [String: Int]

    init(table: TableDescription, ownership: TableOwnership, side: String) {
        self.table = table
        self.ownership = ownership
        self.side = side
        positions = Dictionary(
            table.columns.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Why a column may not be written; `nil` when it may.
    func refusal(column: String, lineNumber: Int) -> UpsertRefusal? {
        guard let position = positions[column] else {
            let nearest = NearestWord.among(table.columns.map(\.name), to: column)
            return UpsertRefusal(lineNumber: lineNumber, column: column, reason: .unknownColumn(nearest: nearest))
        }
        if table.columns[position].isGenerated {
            return UpsertRefusal(lineNumber: lineNumber, column: column, reason: .generatedColumn)
        }
        if table.columns[position].identity == .always, !ownership.match.contains(column) {
            return UpsertRefusal(lineNumber: lineNumber, column: column, reason: .identityColumn)
        }
        // The match key says which row is meant; naming it is not writing it.
        if ownership.match.contains(column) || ownership.mayWrite(column, side: side) { return nil }
        var owner = "nobody"
        if case .owned(let name)? = ownership.columns[column] { owner = name }
        return UpsertRefusal(lineNumber: lineNumber, column: column, reason: .foreignColumn(owner: owner, side: side))
    }

    func record(json line: [UInt8], lineNumber: Int) throws(UpsertRefusal) -> UpsertRecord {
        let members: [(name: String, value: JSONLine.Value)]
        do {
            members = try JSONLine.members(of: line)
        } catch {
            throw UpsertRefusal(lineNumber: lineNumber, reason: .malformed(error.what))
        }
        var values: [(String, String?)] = []
        for (name, value) in members {
            if let refusal = refusal(column: name, lineNumber: lineNumber) { throw refusal }
            do {
                values.append((name, try text(value, column: name)))
            } catch {
                throw UpsertRefusal(lineNumber: lineNumber, column: name, reason: .malformed(error.what))
            }
        }
        return try record(values, lineNumber: lineNumber)
    }

    /// A record of named values; the last of several with one name holds.
    func record(_ values: [(String, String?)], lineNumber: Int) throws(UpsertRefusal) -> UpsertRecord {
        var known: [Int: String?] = [:]
        for (name, value) in values {
            if let position = positions[name] { known[position] = .some(value) }
        }
        var key: [String] = []
        for column in ownership.match {
            guard let position = positions[column], case .some(.some(let value)) = known[position] else {
                throw UpsertRefusal(lineNumber: lineNumber, column: column, reason: .missingKey)
            }
            key.append(value)
        }
        let order = known.keys.sorted()
        return UpsertRecord(
            lineNumber: lineNumber, columns: order.map { table.columns[$0].name }, values: order.map { known[$0] ?? nil },
            key: key)
    }

    private func text(_ value: JSONLine.Value, column name: String) throws(JSONLine.Malformed) -> String? {
        let column = positions[name].map { table.columns[$0] }
        let isDocument = column.map { [114, 3802].contains($0.baseTypeOID) } ?? false
        switch value {
        case .null: return nil
        case .text(let text): return isDocument ? Self.document(text) : text
        case .raw(let raw):
            guard let column, column.category == "A", raw.hasPrefix("[") else { return raw }
            return try Self.arrayLiteral(raw, ofDocuments: [199, 3807].contains(column.baseTypeOID))
        }
    }

    /// A JSON array as PostgreSQL writes arrays. Every element of a `json[]` or `jsonb[]` is a document, an array too.
    private static func arrayLiteral(
        _ raw: String, ofDocuments: Bool, dimensions: Int = 6
    ) throws(JSONLine.Malformed) -> String {
        guard dimensions > 0 else { throw JSONLine.Malformed(what: "an array of PostgreSQL has at most 6 dimensions") }
        var parts: [String] = []
        for value in try JSONLine.elements(of: raw) {
            switch value {
            case .null: parts.append("NULL")
            case .text(let text): parts.append(element(ofDocuments ? document(text) : text))
            case .raw(let raw) where raw.hasPrefix("[") && !ofDocuments:
                parts.append(try arrayLiteral(raw, ofDocuments: false, dimensions: dimensions - 1))
            case .raw(let raw): parts.append(element(raw))
            }
        }
        return "{" + parts.joined(separator: ",") + "}"
    }

    /// A string as an element of an array literal.
    private static func element(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { result += "\\" }
            result.unicodeScalars.append(scalar)
        }
        return result + "\""
    }

    /// A string as a JSON document.
    private static func document(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 32:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
