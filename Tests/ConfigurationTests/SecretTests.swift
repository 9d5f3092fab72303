import Configuration
import Foundation
import ReplicationCore
import Testing

@Suite struct SecretTests {
    private func reference(_ url: String) throws -> SecretReference {
        let file = "version: 1\ndatabases:\n  a:\n    url: \"\(url)\"\n"
        return try ConfigurationFile.parse(file, path: "f").databases[0].url
    }

    @Test(arguments: [
        ("env:DATABASE_URL", SecretReference.environment("DATABASE_URL")),
        ("file:/run/secrets/url", .file("/run/secrets/url")),
        ("service:hotel", .conninfo("service='hotel'")),
        ("service=hotel", .conninfo("service=hotel")),
        ("host=/tmp dbname=x user='a b'", .conninfo("host=/tmp dbname=x user='a b'")),
        ("postgresql://bot@db:5432/hotel", .conninfo("postgresql://bot@db:5432/hotel")),
        ("postgresql:///hotel?host=/tmp&schema=public", .conninfo("postgresql:///hotel?host=/tmp")),
        ("postgresql://[::1]:5432/hotel", .conninfo("postgresql://[::1]:5432/hotel")),
    ])
    func placeOfASecretIsRead(_ url: String, _ expected: SecretReference) throws {
        #expect(try reference(url) == expected)
    }

    @Test(arguments: [
        "postgresql://bot:hunter2@db/hotel", "postgres://bot:hun@ter2@db/hotel",
        "postgresql://db/hotel?user=bot&password=hunter2", "host=db password=hunter2",
        "host=db PASSWORD = 'hunter2 x' dbname=x", "host=db sslpassword=hunter2",
    ])
    func literalPasswordIsRefusedAndNotRepeated(_ url: String) throws {
        let error = try #require(throws: ConfigurationError.self) { try reference(url) }
        #expect(error.description.hasPrefix("f:4:10: databases.a.url holds a password"))
        #expect(!error.description.contains("hun"))
    }

    @Test(arguments: [
        ("$DATABASE_URL", "env:DATABASE_URL"), ("${DATABASE_URL}", "env:DATABASE_URL"),
        ("DATABASE_URL", "env:DATABASE_URL"), ("env:database_url", "env:DATABASE_URL"), ("ENV:X", "env:X"),
    ])
    func nearFormsAreSuggested(_ url: String, _ suggestion: String) throws {
        if url == "env:database_url" {
            #expect(try reference(url) == .environment("database_url"))
            return
        }
        let error = try #require(throws: ConfigurationError.self) { try reference(url) }
        #expect(error.problems.map(\.suggestion) == [suggestion])
    }

    @Test func unreadableTextIsNotRepeated() throws {
        let error = try #require(throws: ConfigurationError.self) { try reference("hunter2 is my password") }
        #expect(!error.description.contains("hunter2"))
    }

    @Test(arguments: [
        ("postgresql://u:p@h:5432/d?schema=public", "postgresql://u:p@h:5432/d"),
        (
            "postgres://u:p@h/d?schema=public&connection_limit=5&pgbouncer=true&connect_timeout=3",
            "postgres://u:p@h/d?connect_timeout=3"
        ),
        ("postgresql://h/d?sslmode=require&pool_timeout=2", "postgresql://h/d?sslmode=require"),
        (
            "postgresql://h/d?sslmode=require&sslaccept=strict&sslcert=/ca.pem",
            "postgresql://h/d?sslrootcert=/ca.pem&sslmode=verify-full"
        ),
        ("postgresql://h/d?sslcert=/c.pem&sslkey=/k.pem", "postgresql://h/d?sslcert=/c.pem&sslkey=/k.pem"),
        ("postgresql://h/d?options=-c%20x%3Dy&statement_cache_size=0", "postgresql://h/d?options=-c%20x%3Dy"),
        ("host=h dbname=schema", "host=h dbname=schema"),
    ])
    func prismaParametersAreTakenOut(_ url: String, _ expected: String) {
        #expect(PrismaURL.withoutPrismaParameters(url) == expected)
    }

    @Test func poolerIsRecognised() {
        #expect(PrismaURL.usesPooler("postgresql://h/d?schema=a&pgbouncer=true"))
        #expect(!PrismaURL.usesPooler("postgresql://h/d?schema=a"))
    }

    private func database(_ url: SecretReference) -> DatabaseSettings {
        DatabaseSettings(name: "bot", url: url)
    }

    @Test func variableIsReadAndCleaned() throws {
        let resolver = SecretResolver(environment: ["U": " \"postgresql://u:p@h/d?schema=public\"\n"])
        #expect(try resolver.conninfo(of: database(.environment("U"))) == "postgresql://u:p@h/d")
        #expect(try resolver.conninfo(of: database(.conninfo("service=x"))) == "service=x")
    }

    @Test func errorsNameThePlaceAndNeverTheValue() throws {
        let resolver = SecretResolver(environment: [
            "EMPTY": "", "ODD": "hunter2", "PROXY": "prisma://hunter2",
        ])
        let cases: [(SecretReference, SecretError)] = [
            (.environment("NONE"), .missingVariable("NONE", database: "bot")),
            (.environment("EMPTY"), .emptyVariable("EMPTY", database: "bot")),
            (.environment("ODD"), .notAConnection(place: "the environment variable ODD", database: "bot")),
            (.environment("PROXY"), .prismaProxy(place: "the environment variable PROXY", database: "bot")),
            (.file("/nowhere/at/all"), .unreadableFile("/nowhere/at/all", database: "bot")),
        ]
        for (reference, expected) in cases {
            let error = try #require(throws: SecretError.self) {
                try resolver.conninfo(of: database(reference))
            }
            #expect(error == expected)
            #expect(!error.description.contains("hunter2"))
        }
    }

    @Test func fileIsReadRelativeToTheConfiguration() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "lindero-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data("postgresql://u:p@h/d\n".utf8).write(to: folder.appendingPathComponent("url"))
        let resolver = SecretResolver(environment: [:], directory: folder.path)
        #expect(try resolver.conninfo(of: database(.file("url"))) == "postgresql://u:p@h/d")
    }
}
