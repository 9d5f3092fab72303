import ReplicationCore
import Yams

/// `databases` and `origin`.
extension ConfigurationParser {
    mutating func databases(_ node: Node) -> [DatabaseSettings] {
        entries(node, of: "databases").compactMap { entry in
            guard isDatabaseName(entry) else { return nil }
            return database(entry)
        }
    }

    private mutating func isDatabaseName(_ entry: Entry) -> Bool {
        let name = entry.key
        if name == "shared" {
            report(
                "a database can't be named \"shared\": that word marks columns everybody writes",
                at: entry.keyNode)
            return false
        }
        let isValid =
            (1...32).contains(name.utf8.count)
            && name.unicodeScalars.allSatisfy {
                $0.isASCII
                    && ($0.properties.isAlphabetic || "0"..."9" ~= $0 || "_-".unicodeScalars.contains($0))
            }
        if !isValid {
            report(
                "a database's name is at most 32 letters, digits, _ and -, but is \"\(name)\"",
                at: entry.keyNode)
        }
        return isValid
    }

    private mutating func database(_ entry: Entry) -> DatabaseSettings? {
        let place = "databases.\(entry.key)"
        if case .scalar = entry.value {
            return secret(entry.value, of: place).map { DatabaseSettings(name: entry.key, url: $0) }
        }
        let before = problems.count
        var url: SecretReference?
        var settings = DatabaseSettings(name: entry.key, url: .conninfo(""))
        var hasURL = false
        for inner in entries(entry.value, of: place, keys: ["url", "roles", "physical_standby"]) {
            switch inner.key {
            case "url":
                hasURL = true
                url = secret(inner.value, of: "\(place).url")
            case "roles": settings.roles = words(inner.value, of: "\(place).roles").map(\.text)
            default: settings.isPhysicalStandby = flag(inner.value, of: "\(place).physical_standby") ?? false
            }
        }
        if !hasURL, problems.count == before {
            report(
                "\(place) has no url; write url: env:NAME with the variable that holds it", at: entry.keyNode)
        }
        // Kept even without its url, so that columns which name it are not reported as well.
        settings.url = url ?? settings.url
        return settings
    }

    mutating func secret(_ node: Node, of place: String) -> SecretReference? {
        let expected = "env:NAME, file:PATH, service:NAME or a connection string without a password"
        guard let word = word(node, of: place, expected: expected) else { return nil }
        do throws(SecretText.Failure) {
            return try SecretText.parse(word.text)
        } catch {
            switch error {
            case .containsPassword:
                report(
                    "\(place) holds a password, and this file is no place for one (it is read, copied and "
                        + "committed); put the whole URL into an environment variable and write env:NAME, or into a "
                        + "file and write file:PATH, or leave the password to ~/.pgpass or a libpq service",
                    at: node)
            case .malformed(let suggestion):
                report("\(place) must be \(expected)", at: node, suggestion: suggestion)
            }
            return nil
        }
    }

    /// The origin's name; the first database when there is no such key.
    mutating func origin(_ node: Node, databases: [DatabaseSettings]) -> String? {
        guard let word = word(node, of: "origin", expected: "the name of a database") else { return nil }
        return databaseName(word, of: "origin", databases: databases.map(\.name))
    }

    /// The word, when it names a database.
    mutating func databaseName(_ word: Word, of place: String, databases: [String]) -> String? {
        if databases.contains(word.text) { return word.text }
        let known = databases.isEmpty ? "none is declared" : "declared: " + databases.joined(separator: ", ")
        report(
            "\(place) is \"\(word.text)\", which is no database of this file (\(known))", mark: word.mark,
            suggestion: NearestWord.among(databases, to: word.text))
        return nil
    }

    /// What no single entry shows: the numbers of databases a backend needs, and roles that would be ambiguous.
    mutating func checkBackend(
        _ backend: LinderoConfiguration.Backend, databases: [DatabaseSettings], origin: String?,
        at node: Node?,
        databasesNode: Node?
    ) {
        let written = databases.filter { !$0.isPhysicalStandby }
        switch backend {
        case .shared: break
        case .replica where databases.count < 2:
            report("backend replica needs two databases: the origin and its replica", at: node)
        case .split where written.count < 2:
            report("backend split needs two databases that can be written", at: node)
        case .replica, .split:
            if written.count > 2 {
                report(
                    "backend \(backend.rawValue) works between two databases, but \(written.count) are declared",
                    at: node)
            }
            if origin == nil {
                report("origin is missing: which database holds the data today?", at: databasesNode)
            }
        }
        if let origin, databases.contains(where: { $0.name == origin && $0.isPhysicalStandby }) {
            report(
                "origin \"\(origin)\" is a physical standby, which holds only what its primary has",
                at: databasesNode)
        }
        guard backend != .split else { return }
        var owner: [String: String] = [:]
        for database in databases {
            for role in database.roles {
                if let other = owner[role], other != database.name {
                    report(
                        "role \"\(role)\" stands under both \(other) and \(database.name), so a write could not be "
                            + "told apart; give each service its own role", at: databasesNode)
                }
                owner[role] = database.name
            }
        }
    }
}
