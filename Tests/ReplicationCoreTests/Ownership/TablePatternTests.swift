import ReplicationCore
import Testing

@Suite struct TablePatternTests {
    @Test(arguments: [
        ("Reservas", "public", "Reservas", true),
        ("Reservas", "public", "reservas", false),
        ("Reservas", "crm", "Reservas", false),
        ("crm.Reservas", "crm", "Reservas", true),
        ("public.*", "public", "anything", true),
        ("public.*", "crm", "anything", false),
        ("*", "crm", "anything", true),
        ("*.*", "crm", "anything", true),
        ("*.Leads", "crm", "Leads", true),
        ("Reser*", "public", "Reservas", true),
        ("Reser*", "public", "Preser", false),
        ("*as", "public", "Reservas_as_as", true),
        ("a*b*c", "public", "aXbXXbc", true),
        ("a*b*c", "public", "aXbXXb", false),
        ("T?", "public", "T1", true),
        ("T?", "public", "T", false),
        ("\"T?\"", "public", "T?", true),
        ("\"T?\"", "public", "T1", false),
        ("\"a.b\".\"c\"\"d\"", "a.b", "c\"d", true),
        ("ñ*", "public", "ñandú", true),
    ])
    func patternMatchesExactlyWhatItSays(_ pattern: String, _ schema: String, _ name: String, _ matches: Bool)
        throws
    {
        let table = QualifiedName(schema: schema, name: name)
        #expect(try #require(TablePattern(pattern)).matches(table) == matches)
    }

    @Test(arguments: ["", ".", "a.", ".a", "a.b.c", "\"open", "\"\""])
    func textThatNamesNothingIsNoPattern(_ text: String) {
        #expect(TablePattern(text) == nil)
    }

    @Test(arguments: ["Plain", "with.dot", "a\"b", "*", "what?", "\"", "ünï", "a b"])
    func textOfANameReadsBackAsThatName(_ name: String) throws {
        for schema in ["public", "odd.schema", "s\"x", "plain"] {
            let table = QualifiedName(schema: schema, name: name)
            #expect(TablePattern(TablePattern.text(for: table))?.exactName == table)
        }
    }

    @Test func manyStarsDoNotTakeExponentialTime() throws {
        let pattern = try #require(TablePattern(String(repeating: "a*", count: 30) + "b"))
        let name = QualifiedName(schema: "public", name: String(repeating: "a", count: 60))
        #expect(!pattern.matches(name))
    }
}
