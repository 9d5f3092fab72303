import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@Suite struct CatalogReaderTests {
    private func withDatabase(
        _ script: String, _ body: (PostgresConnection) async throws -> Void
    ) async throws {
        let cluster = try await PostgresCluster.shared()
        let connection = try await PostgresConnection.connect(
            ConnectionOptions(try await cluster.createDatabase(prefix: "catalog")))
        do {
            _ = try await connection.execute("SET search_path = public; " + script)
            _ = try await connection.execute("SET search_path = ''")
            try await body(connection)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    @Test func columnsKeysAndTypesAreDescribed() async throws {
        let script = """
            CREATE DOMAIN short AS varchar(10); CREATE DOMAIN shorter AS short CHECK (length(VALUE) < 5);
            CREATE TYPE mood AS ENUM ('sad', 'ok');
            CREATE TABLE "Reservas" (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, dropped int,
                price numeric(12,2) DEFAULT 1.5, mood mood, code shorter, tags text[],
                total numeric GENERATED ALWAYS AS (price * 2) STORED);
            ALTER TABLE "Reservas" DROP COLUMN dropped;
            CREATE UNIQUE INDEX ON "Reservas" (price) WHERE price > 0;
            CREATE UNIQUE INDEX ON "Reservas" (lower(code));
            CREATE UNIQUE INDEX ON "Reservas" (code, price) INCLUDE (mood);
            """
        try await withDatabase(script) { connection in
            let tables = try await CatalogReader.tables(connection)
            let table = try #require(tables.first)
            #expect(tables.map(\.name.description) == ["Reservas"])
            #expect(
                table.columns.map(\.name) == ["id", "bookingId", "price", "mood", "code", "tags", "total"])
            #expect(table.primaryKey == ["id"])
            #expect(table.identityColumns == ["id"])
            #expect(table.uniqueKeys == [["bookingId"], ["code", "price"]])
            #expect(table.column("id")?.identity == .always)
            #expect(table.column("price")?.type == "numeric(12,2)")
            #expect(table.column("price")?.defaultExpression == "1.5")
            #expect(table.column("mood")?.baseKind == "e")
            #expect(table.column("mood")?.type == "public.mood")
            #expect(table.column("code")?.baseTypeOID == 1043)
            #expect(table.column("code")?.type == "public.shorter")
            #expect(table.column("tags")?.category == "A")
            #expect(table.column("total")?.isGenerated == true)
            #expect(table.column("bookingId")?.isNotNull == true)
        }
    }

    @Test func replicaIdentityIsWhatPostgreSQLWouldLog() async throws {
        let script = """
            CREATE TABLE plain (a int PRIMARY KEY, b int NOT NULL UNIQUE);
            CREATE TABLE by_index (a int PRIMARY KEY, b int NOT NULL UNIQUE);
            ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b_key;
            CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
            CREATE TABLE whole (a int PRIMARY KEY); ALTER TABLE whole REPLICA IDENTITY FULL;
            CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
            CREATE TABLE keyless (a int);
            """
        try await withDatabase(script) { connection in
            let found = try await CatalogReader.tables(connection)
            let tables = Dictionary(uniqueKeysWithValues: found.map { ($0.name.name, $0) })
            #expect(tables["plain"]?.identityColumns == ["a"])
            #expect(tables["by_index"]?.replicaIdentity == .index)
            #expect(tables["by_index"]?.identityColumns == ["b"])
            #expect(tables["nothing"]?.identityColumns == [])
            #expect(tables["whole"]?.replicaIdentity == .full)
            #expect(tables["deferred"]?.primaryKey == ["a"])
            #expect(tables["deferred"]?.identityColumns == [])
            #expect(tables["keyless"]?.primaryKey == [])
        }
    }

    @Test func systemLinderoPrismaTemporaryAndExtensionTablesAreLeftOut() async throws {
        let script = """
            CREATE TABLE _prisma_migrations (id text PRIMARY KEY); CREATE SCHEMA lindero;
            CREATE TABLE lindero.direction (name text PRIMARY KEY); CREATE TEMP TABLE passing (a int);
            CREATE SCHEMA crm; CREATE TABLE crm.leads (a int PRIMARY KEY);
            CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a);
            CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
            CREATE VIEW seen AS SELECT 1; CREATE MATERIALIZED VIEW kept AS SELECT 1;
            """
        try await withDatabase(script) { connection in
            let tables = try await CatalogReader.tables(connection)
            #expect(tables.map(\.name.description) == ["crm.leads", "part_1", "parts"])
            #expect(tables.map(\.isPartition) == [false, true, false])
            #expect(tables.map(\.kind) == [.ordinary, .ordinary, .partitioned])
        }
    }

    @Test func threeTablesOfAThousandAreReadAlone() async throws {
        let script = """
            DO $$ BEGIN FOR i IN 1..1000 LOOP
                EXECUTE format('CREATE TABLE "T%s" (id int PRIMARY KEY, a text, b text)', i); END LOOP; END $$;
            CREATE TABLE "odd ""name"", {x}" (id int PRIMARY KEY);
            """
        try await withDatabase(script) { connection in
            let names = ["T7", "T500", "odd \"name\", {x}", "missing"].map {
                QualifiedName(schema: "public", name: $0)
            }
            let tables = try await CatalogReader.tables(connection, matching: names)
            #expect(Set(tables.map(\.name)) == Set(names.dropLast()))
            #expect(try await CatalogReader.tables(connection, matching: []).isEmpty)
            let pattern = try #require(TablePattern("T99?"))
            #expect(try await CatalogReader.tables(connection, selectedBy: [pattern]).count == 10)
            let clock = ContinuousClock()
            var count = 0
            let duration = try await clock.measure {
                count = try await CatalogReader.tables(connection).count
            }
            #expect(count == 1_001)
            #expect(duration < .seconds(10))
        }
    }

    @Test func grantsOfColumnsTellTheRolesApart() async throws {
        let suffix = String(UInt32.random(in: 0...UInt32.max), radix: 36)
        let script = """
            CREATE TABLE "Reservas" (id int PRIMARY KEY, status text, notes text, phone text);
            CREATE ROLE "bot_\(suffix)_app" LOGIN; CREATE ROLE "sync_\(suffix)_app" LOGIN;
            GRANT UPDATE (notes, phone) ON "Reservas" TO "bot_\(suffix)_app";
            GRANT INSERT, DELETE, UPDATE (status, phone) ON "Reservas" TO "sync_\(suffix)_app";
            """
        try await withDatabase(script) { connection in
            let tables = try await CatalogReader.tables(connection)
            let roles = try await GrantReader.roles(connection, tables: tables).filter {
                $0.role.contains(suffix)
            }
            let name = QualifiedName(schema: "public", name: "Reservas")
            #expect(roles.map(\.role) == ["bot_\(suffix)_app", "sync_\(suffix)_app"])
            #expect(roles[0].tables[name]?.updatableColumns == ["notes", "phone"])
            #expect(roles[0].tables[name]?.mayInsert == false)
            #expect(roles[1].tables[name]?.updatableColumns == ["status", "phone"])
            #expect(roles[1].tables[name]?.mayDelete == true)

            let text = ConfigurationDraft.write(tables: tables, databaseName: "primary", roles: roles)
            let configuration = try ConfigurationFile.parse(text, path: "draft")
            let policy = try OwnershipPolicy.resolve(configuration, tables: tables)
            #expect(policy.tables[name]?.columns["status"] == .owned(by: "sync_\(suffix)"))
            #expect(policy.tables[name]?.columns["id"] == .owned(by: "sync_\(suffix)"))
            _ = try await connection.execute(
                "DROP OWNED BY \"bot_\(suffix)_app\", \"sync_\(suffix)_app\"; DROP ROLE \"bot_\(suffix)_app\", \"sync_\(suffix)_app\""
            )
        }
    }
}
