import Testing

@testable import ReplicationCore

@Suite struct SQLTextTests {
    @Test(arguments: [
        ("plain", "\"plain\""), ("Reservas", "\"Reservas\""), ("a\"b", "\"a\"\"b\""), ("\"", "\"\"\"\""),
        ("select", "\"select\""), ("two\nlines", "\"two\nlines\""), ("", "\"\""), ("a\u{0}b", "\"ab\""),
        ("x\"; DROP TABLE y; --", "\"x\"\"; DROP TABLE y; --\""),
        ("e\u{301}\"\u{301}", "\"e\u{301}\"\"\u{301}\""),
    ])
    func identifierIsQuotedWhateverItHolds(name: String, quoted: String) {
        #expect(Array(SQLText.identifier(name).utf8) == Array(quoted.utf8))
    }

    @Test(arguments: [
        ("it's", "'it''s'"), ("''", "''''''"), ("back\\slash", "'back\\slash'"), ("\u{0}", "''"),
    ])
    func literalIsQuotedForStandardConformingStrings(text: String, quoted: String) {
        #expect(SQLText.literal(text) == quoted)
    }

    @Test func identifierOfSixtyThreeBytesStaysWhole() {
        let name = String(repeating: "ñ", count: 31) + "x"
        #expect(name.utf8.count == 63)
        #expect(SQLText.identifier(name) == "\"\(name)\"")
    }

    @Test func anyIdentifierReadsBackAsItself() {
        let letters: [Unicode.Scalar] = [
            "\"", "'", "\\", "a", "Z", " ", "\n", "\r", "ñ", "\u{301}", "😀", ";", "-", "$",
        ]
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        for _ in 0..<5_000 {
            var name = String.UnicodeScalarView()
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let length = Int(state >> 59)
            for _ in 0..<length {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                name.append(letters[Int(state >> 33) % letters.count])
            }
            #expect(unquoted(SQLText.identifier(String(name)), "\"") == Array(name), "seed \(seed)")
            #expect(unquoted(SQLText.literal(String(name)), "'") == Array(name), "seed \(seed)")
        }
    }

    @Test func arrayLiteralEscapesQuotesAndBackslashes() {
        #expect(SQLText.arrayLiteral(["a", "b\"c", "d\\e", "", "NULL"]) == #"{"a","b\"c","d\\e","","NULL"}"#)
        #expect(SQLText.arrayLiteral([]) == "{}")
    }

    /// Reads quoted SQL as the server does: `nil` unless it is one token from end to end.
    private func unquoted(_ text: String, _ quote: Unicode.Scalar) -> [Unicode.Scalar]? {
        let scalars = Array(text.unicodeScalars)
        guard scalars.count >= 2, scalars.first == quote, scalars.last == quote else { return nil }
        var result: [Unicode.Scalar] = []
        var index = 1
        while index < scalars.count - 1 {
            if scalars[index] == quote {
                guard index + 1 < scalars.count - 1, scalars[index + 1] == quote else { return nil }
                index += 1
            }
            result.append(scalars[index])
            index += 1
        }
        return result
    }
}
