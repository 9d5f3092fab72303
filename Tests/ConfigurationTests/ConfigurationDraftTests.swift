import Configuration
import ReplicationCore
import Testing

@Suite struct ConfigurationDraftTests {
    private func table(_ name: String, schema: String = "public", columns: [String], key: [String] = ["id"])
        -> TableDescription
    {
        TableDescription(
            name: QualifiedName(schema: schema, name: name),
            columns: columns.map { ColumnDescription(name: $0, type: "text", isNotNull: $0 == "id") },
            primaryKey: key, identityColumns: key)
    }

    private var tables: [TableDescription] {
        var partition = table("Reservas_2026", columns: ["id"])
        partition.isPartition = true
        var generated = table("Sums", columns: ["id", "total"])
        generated.columns[1].isGenerated = true
        return [
            table("Reservas", columns: ["id", "status", "phone", "crmNotes"]), partition, generated,
            table(
                "odd.\"name\"*", schema: "my schema",
                columns: ["id", "null", "yes", "a b", "tab\there", "12"]),
            table("NoKey", columns: ["x"], key: []), table("Empty", columns: [], key: []),
        ]
    }

    private func resolve(_ text: String) throws -> (LinderoConfiguration, OwnershipPolicy) {
        let configuration = try ConfigurationFile.parse(text, path: "draft")
        return (configuration, try OwnershipPolicy.resolve(configuration, tables: tables))
    }

    @Test func templateIsAValidFile() throws {
        let configuration = try ConfigurationFile.parse(ConfigurationTemplate.text, path: "lindero.yaml")
        #expect(configuration.origin == "primary")
        #expect(configuration.databases[0].url == .environment("DATABASE_URL"))
        #expect(configuration.gates == Gates())
    }

    @Test func draftValidatesAndCoversEveryTable() throws {
        let text = ConfigurationDraft.write(tables: tables, databaseName: "primary")
        let (configuration, policy) = try resolve(text)
        #expect(configuration.databases.map(\.name) == ["primary"])
        #expect(Set(policy.tables.keys) == Set(tables.filter { !$0.isPartition }.map(\.name)))
        let odd = try #require(policy.tables[QualifiedName(schema: "my schema", name: "odd.\"name\"*")])
        #expect(odd.columns.count == 6)
        #expect(text.contains("- status  # decide: who writes this? (text)"))
        #expect(text.contains("- id  # key (text)"))
    }

    @Test func columnPrivilegesGiveOwnersAndSharedColumns() throws {
        let name = QualifiedName(schema: "public", name: "Reservas")
        let roles = [
            RoleGrants(
                role: "bot_app",
                tables: [
                    .init(
                        table: name, mayInsert: false, mayDelete: false,
                        updatableColumns: ["crmNotes", "phone"])
                ]),
            RoleGrants(
                role: "sync_app",
                tables: [
                    .init(
                        table: name, mayInsert: true, mayDelete: true, updatableColumns: ["status", "phone"])
                ]),
        ]
        let text = ConfigurationDraft.write(tables: tables, databaseName: "primary", roles: roles)
        let (configuration, policy) = try resolve(text)
        #expect(configuration.databases.map(\.name) == ["bot", "sync"])
        #expect(configuration.databases.map(\.roles) == [["bot_app"], ["sync_app"]])
        let reservas = try #require(policy.tables[name])
        #expect(reservas.columns["crmNotes"] == .owned(by: "bot"))
        #expect(reservas.columns["status"] == .owned(by: "sync"))
        #expect(reservas.columns["phone"] == .shared(SharedColumnRule(policy: .queue)))
        #expect(reservas.columns["id"] == .owned(by: "sync"))
        #expect(reservas.insertOwners == ["sync"])
        #expect(reservas.deleteOwners == ["sync"])
    }

    @Test func rolesThatMayAllWriteTheSameTellNothing() throws {
        let name = QualifiedName(schema: "public", name: "Reservas")
        let roles = ["a", "b"].map {
            RoleGrants(
                role: $0,
                tables: [
                    .init(
                        table: name, mayInsert: true, mayDelete: true, updatableColumns: ["status", "phone"])
                ])
        }
        let text = ConfigurationDraft.write(tables: tables, databaseName: "shared", roles: roles)
        #expect(try resolve(text).0.databases.map(\.name) == ["shared_db"])
    }

    @Test func emptyDatabaseGivesAFileThatValidates() throws {
        let text = ConfigurationDraft.write(tables: [], databaseName: "primary")
        #expect(try ConfigurationFile.parse(text, path: "draft").tables.isEmpty)
    }

    @Test func draftOfAThousandTablesValidates() throws {
        let tables = (0..<1_000).map { table("Table\($0)", columns: ["id", "a", "b", "c"]) }
        let text = ConfigurationDraft.write(tables: tables, databaseName: "primary")
        let configuration = try ConfigurationFile.parse(text, path: "draft")
        #expect(try OwnershipPolicy.resolve(configuration, tables: tables).tables.count == 1_000)
    }

    @Test(arguments: [
        ("service:hotel", SecretReference.conninfo("service='hotel'")), ("env:HOTEL_URL", .environment("HOTEL_URL")),
        ("file:/run/secrets/a b: c, #d", .file("/run/secrets/a b: c, #d")), ("file:x:", .file("x:")),
        ("postgresql://me@localhost/hotel?sslmode=require", .conninfo("postgresql://me@localhost/hotel?sslmode=require")),
        ("host=a dbname='b c'", .conninfo("host=a dbname='b c'")),
    ])
    func theFileReachesTheDatabaseAsItWasReached(_ reference: String, _ expected: SecretReference) throws {
        let draft = ConfigurationDraft.write(tables: tables, databaseName: "primary", reference: reference)
        #expect(try ConfigurationFile.parse(draft, path: "draft").databases.map(\.url) == [expected])
        let template = ConfigurationTemplate.text(reference: reference)
        #expect(try ConfigurationFile.parse(template, path: "template").databases.map(\.url) == [expected])
    }
}
