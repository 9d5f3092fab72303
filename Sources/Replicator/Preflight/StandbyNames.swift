/// Who `synchronous_standby_names` means: `a, b`, `2 (a, b)`, `FIRST 2 (a, b)` or `ANY 2 (a, b)`, with names in quotes or without.
struct StandbyNames: Sendable {
    private let names: [String]

    init(_ setting: String) {
        var names: [String] = []
        var name = ""
        var (isQuoted, hasName) = (false, false)
        for character in setting {
            switch character {
            case "\"":
                // Two of them inside a name are one.
                if !isQuoted, hasName { name.append(character) }
                isQuoted.toggle()
                hasName = true
            case _ where isQuoted:
                name.append(character)
            case "(":
                // So far it was how many, and which.
                (names, name, hasName) = ([], "", false)
            case ",", ")", " ", "\t", "\n", "\r":
                if hasName { names.append(name.lowercased()) }
                (name, hasName) = ("", false)
            default:
                name.append(character)
                hasName = true
            }
        }
        if hasName { names.append(name.lowercased()) }
        self.names = names
    }

    /// Whether a stream of that `application_name` may be a synchronous standby: `*` is anybody, and cases do not matter.
    func mean(_ applicationName: String) -> Bool { names.contains("*") || names.contains(applicationName.lowercased()) }
}
