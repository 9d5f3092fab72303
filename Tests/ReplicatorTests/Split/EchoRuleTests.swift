import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Where rows that the other side made have to go back: defaults as a real server writes them.
@Suite struct EchoRuleTests {
    private static let here: KeyValuePairs<String, String> = [
        "nothing": "text", "number": "int DEFAULT -5", "fraction": "numeric DEFAULT 1.50", "truth": "boolean DEFAULT true",
        "word": "text DEFAULT 'it''s'", "sized": "varchar(20) DEFAULT 'new'", "document": "jsonb DEFAULT '{}'", "empty": "text DEFAULT NULL",
        "list": "text[] DEFAULT '{}'",
        "call": "timestamptz DEFAULT now()", "local_time": "time DEFAULT LOCALTIME", "local_timestamp": "timestamp DEFAULT LOCALTIMESTAMP",
        "today": "date DEFAULT CURRENT_DATE", "who": "text DEFAULT USER", "session": "text DEFAULT SESSION_USER",
        "unlike": "text DEFAULT 'bot'", "alone": "text DEFAULT 'bot'", "in_domain": "public.rank", "own_number": "int GENERATED ALWAYS AS IDENTITY",
        "filled": "text",
    ]
    private static let plain: Set<String> = ["nothing", "number", "fraction", "truth", "word", "sized", "document", "empty", "list"]

    @Test func onlyEqualLiteralsNeedNoWayBack() async throws {
        var tables: [TableDescription] = []
        for role in ["source", "target"] {
            let conninfo = try await PostgresCluster.shared(role).createDatabase(prefix: "echo")
            let connection = try await PostgresConnection.connect(ConnectionOptions(conninfo))
            let columns = Self.here.map { name, type in
                let other = role == "source" ? type : name == "unlike" ? "text DEFAULT 'sync'" : name == "alone" ? "text" : type
                return "\"\(name)\" \(other)"
            }
            _ = try await connection.execute(
                "CREATE DOMAIN public.rank AS int DEFAULT 7; CREATE TABLE public.t (id int PRIMARY KEY, \(columns.joined(separator: ", ")))")
            tables += try await CatalogReader.tables(connection, matching: [QualifiedName(schema: "public", name: "t")])
            await connection.close()
        }
        for (name, _) in Self.here {
            var ownership = TableOwnership(
                table: QualifiedName(schema: "public", name: "t"), match: ["id"], insertOwners: ["sync"], deleteOwners: [],
                privateColumns: [], columns: ["id": .owned(by: "sync"), name: .owned(by: "bot")])
            if name == "filled" { ownership.fill = [name: "x"] }
            let rule = EchoRule(ownership: ownership, side: "bot", maker: "sync")
            #expect(rule.isNeeded(here: tables[0], there: tables[1]) == !Self.plain.contains(name), "\(name)")
        }
    }
}
