import ReplicationCore
import Yams

/// What only a split needs: `fill`, `references`, `on_delete` of a table, and `replication.sequences`.
extension ConfigurationParser {
    mutating func split(_ entry: Entry, of place: String, into rule: inout TableRule) {
        switch entry.key {
        case "fill":
            for inner in entries(entry.value, of: place) {
                // Empty text is a value too, when it is written with quotes.
                guard case .scalar(let scalar) = inner.value, !Self.isNull(scalar) else {
                    report(
                        "\(place).\(inner.key) must be a value in its text form, but is \(Self.kind(inner.value))",
                        at: inner.value)
                    continue
                }
                rule.split.fill[inner.key] = scalar.string
                rule.marks["fill \(inner.key)"] = Self.mark(inner.keyNode)
            }
        case "references":
            for inner in entries(entry.value, of: place) {
                guard let word = word(inner.value, of: "\(place).\(inner.key)", expected: "the name of a table") else { continue }
                rule.split.references[inner.key] = word.text
                rule.marks["references \(inner.key)"] = word.mark
                if TablePattern(word.text)?.exactName == nil {
                    report(
                        "\(place).\(inner.key) must be one table, as Name or schema.Name, but is \"\(word.text)\"",
                        mark: word.mark)
                }
            }
        default:
            rule.split.onDelete = choice(entry.value, of: place) ?? rule.split.onDelete
            rule.marks["on_delete"] = Self.mark(entry.keyNode)
        }
    }

    /// `replica` takes it too: it is the way to a split and back, and the file is the same.
    mutating func checkSplit(_ rule: TableRule, place: String) {
        guard let mark = rule.marks["on_delete"], rule.split.references.isEmpty else { return }
        report("\(place).on_delete says what becomes of references, and there are none; add references:", mark: mark)
    }
}
