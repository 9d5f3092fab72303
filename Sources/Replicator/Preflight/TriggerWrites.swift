/// Which columns a row trigger gives values to, as far as its text tells.
enum TriggerWrites {
    /// Columns assigned by `NEW.column := …` or `INTO NEW.column` in PL/pgSQL, or named to one of PostgreSQL's own trigger functions.
    static func columns(of trigger: SplitTableFacts.Trigger) -> Set<String> {
        switch (trigger.language, trigger.function) {
        case ("plpgsql", _): assigned(in: trigger.body)
        // The column that they write is their first argument.
        case ("c", "moddatetime"), ("c", "insert_username"), ("internal", "tsvector_update_trigger"),
            ("internal", "tsvector_update_trigger_column"):
            Set(trigger.arguments.prefix(1))
        // These take columns in pairs with a sequence.
        case ("c", "autoinc"): Set(stride(from: 0, to: trigger.arguments.count, by: 2).map { trigger.arguments[$0] })
        default: []
        }
    }

    private static func assigned(in body: String) -> Set<String> {
        var columns: Set<String> = []
        var tokens = Tokens(body)
        while let token = tokens.next() {
            // After a dot it is a field of something else.
            guard token == .word("new"), tokens.peek() == .symbol(".") else { continue }
            _ = tokens.next()
            guard case .word(let column)? = tokens.next() else { continue }
            if tokens.peek() == .assignment || tokens.before == .word("into") || isStatement(tokens.before) && tokens.peek() == .symbol("=") {
                columns.insert(column)
            }
        }
        return columns
    }

    /// `=` assigns where a statement begins, and compares elsewhere.
    private static func isStatement(_ before: Token?) -> Bool {
        switch before {
        case nil, .symbol(";"), .word("begin"), .word("then"), .word("else"), .word("loop"): true
        default: false
        }
    }

    enum Token: Equatable {
        /// Folded to lower case unless it was quoted.
        case word(String)
        case symbol(Character)
        case assignment
    }

    /// Words and symbols of PL/pgSQL, without comments and strings.
    struct Tokens {
        private var tokens: [Token] = []
        private var position = 0
        /// What stands before the last `new`.
        private(set) var before: Token?

        init(_ text: String) {
            var scanner = Scanner(characters: Array(text))
            while let token = scanner.next() { tokens.append(token) }
        }

        func peek() -> Token? { position < tokens.count ? tokens[position] : nil }

        mutating func next() -> Token? {
            guard position < tokens.count else { return nil }
            let token = tokens[position]
            if token == .word("new") { before = position > 0 ? tokens[position - 1] : nil }
            position += 1
            return token
        }
    }

    private struct Scanner {
        let characters: [Character]
        var position = 0

        private func at(_ offset: Int) -> Character? {
            position + offset < characters.count ? characters[position + offset] : nil
        }

        mutating func next() -> Token? {
            skipBlanks()
            guard let first = at(0) else { return nil }
            if first == "\"" { return .word(quoted("\"")) }
            if first == "'" {
                _ = quoted("'")
                return .symbol("'")
            }
            if first.isLetter || first == "_" {
                let start = position
                while let character = at(0), character.isLetter || character.isNumber || character == "_" || character == "$" {
                    position += 1
                }
                return .word(String(characters[start..<position]).lowercased())
            }
            if first == ":", at(1) == "=" {
                position += 2
                return .assignment
            }
            position += 1
            return .symbol(first)
        }

        private mutating func skipBlanks() {
            while let character = at(0) {
                if character.isWhitespace {
                    position += 1
                } else if character == "-", at(1) == "-" {
                    while let inner = at(0), !inner.isNewline { position += 1 }
                } else if character == "/", at(1) == "*" {
                    while at(0) != nil, !(at(0) == "*" && at(1) == "/") { position += 1 }
                    position += 2
                } else {
                    return
                }
            }
        }

        /// The text between two of the quotes; two in a row inside are one.
        private mutating func quoted(_ quote: Character) -> String {
            var text = ""
            position += 1
            while let character = at(0) {
                position += 1
                guard character == quote else {
                    text.append(character)
                    continue
                }
                guard at(0) == quote else { break }
                text.append(quote)
                position += 1
            }
            return text
        }
    }
}
