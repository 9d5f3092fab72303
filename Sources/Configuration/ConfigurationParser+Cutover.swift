import ReplicationCore
import Yams

/// `cutover`.
extension ConfigurationParser {
    mutating func cutover(_ node: Node, databases: [DatabaseSettings]) -> CutoverSettings {
        var settings = CutoverSettings()
        for entry in entries(node, of: "cutover", keys: ["fence", "pgbouncer", "command"]) {
            let place = "cutover.\(entry.key)"
            switch entry.key {
            case "fence": settings.fence = choice(entry.value, of: place) ?? settings.fence
            case "pgbouncer": settings.bouncer = bouncer(entry, databases: databases)
            default: settings.command = command(entry.value, of: place)
            }
        }
        return settings
    }

    private mutating func bouncer(_ entry: Entry, databases: [DatabaseSettings]) -> BouncerSettings? {
        let place = "cutover.pgbouncer"
        let before = problems.count
        var settings = BouncerSettings(admin: .conninfo(""), file: "", entries: [:])
        var missing = ["admin", "config", "databases"]
        for inner in entries(entry.value, of: place, keys: missing + ["addresses"]) {
            missing.removeAll { $0 == inner.key }
            switch inner.key {
            case "admin": settings.admin = secret(inner.value, of: "\(place).admin") ?? settings.admin
            case "config":
                let example = "/etc/pgbouncer/databases.ini"
                settings.file = folder(inner.value, of: "\(place).config", such: example) ?? ""
            case "databases": settings.entries = bouncerEntries(inner.value, databases: databases)
            default: settings.addresses = bouncerAddresses(inner.value, databases: databases)
            }
        }
        if problems.count == before, !missing.isEmpty {
            report("\(place) lacks \(missing.joined(separator: " and "))", at: entry.keyNode)
        }
        return settings
    }

    private mutating func bouncerEntries(_ node: Node, databases: [DatabaseSettings]) -> [String: String] {
        let place = "cutover.pgbouncer.databases"
        var result: [String: String] = [:]
        for entry in entries(node, of: place) {
            let key = Word(text: entry.key, mark: Self.mark(entry.keyNode))
            guard let name = databaseName(key, of: "a key of \(place)", databases: databases.map(\.name)),
                let word = word(entry.value, of: "\(place).\(name)", expected: "the name of an entry in [databases]")
            else { continue }
            let isPlain = word.text.unicodeScalars.allSatisfy {
                ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0)
                    || "_-.".unicodeScalars.contains($0)
            }
            if !isPlain || word.text == "pgbouncer" {
                report("\(place).\(name) must be the name of an entry in [databases]: letters, digits, _, - and .", at: entry.value)
            } else if let twin = result.first(where: { $0.value == word.text })?.key {
                report("\(place): \(twin) and \(name) share the entry \"\(word.text)\", so one could not move alone", at: entry.value)
            }
            result[name] = word.text
        }
        return result
    }

    private mutating func bouncerAddresses(_ node: Node, databases: [DatabaseSettings]) -> [String: ServerAddress] {
        let place = "cutover.pgbouncer.addresses"
        var result: [String: ServerAddress] = [:]
        for entry in entries(node, of: place) {
            let key = Word(text: entry.key, mark: Self.mark(entry.keyNode))
            let expected = "host:port/database, such as db2:5432/hotel"
            guard let name = databaseName(key, of: "a key of \(place)", databases: databases.map(\.name)),
                let word = word(entry.value, of: "\(place).\(name)", expected: expected)
            else { continue }
            if let address = ServerAddress(word.text) {
                result[name] = address
            } else {
                // Never its content: an address with a user and a password in it is easily written here.
                report("\(place).\(name) must be \(expected)", at: entry.value)
            }
        }
        return result
    }

    /// A program and its arguments, never a line for a shell. Arguments may repeat.
    private mutating func command(_ node: Node, of place: String) -> [String] {
        let expected = "a list: the program's absolute path, then its arguments"
        guard case .sequence(let sequence) = node else {
            report("\(place) must be \(expected), such as [/usr/local/bin/move-service, --fast], but is \(Self.kind(node))", at: node)
            return []
        }
        var words: [String] = []
        for element in sequence {
            guard case .scalar(let scalar) = element, !Self.isNull(scalar) else {
                report("an element of \(place) must be a single value, but is \(Self.kind(element))", at: element)
                continue
            }
            words.append(scalar.string)
        }
        if sequence.isEmpty {
            report("\(place) must be \(expected), but is an empty list", at: node)
        } else if let first = words.first, !first.hasPrefix("/") {
            report("\(place) begins with \"\(first)\", but must begin with the program's absolute path", at: sequence.first)
        }
        return words
    }
}
