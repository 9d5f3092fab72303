import PostgresClient
import TestSupport
import Testing

@testable import SharedBackend

/// What stands in the input is stored as it is, or refused with its line; never mended silently.
@Suite struct UpsertInputTests {
    @Test func invalidUTF8IsRefusedWithItsLine() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, v text, j jsonb)")
        var json = Array("{\"id\":1,\"v\":\"é\"}\n{\"id\":2,\"v\":\"caf".utf8) + [0xE9] + Array("\"}\n".utf8)
        json += Array("{\"id\":3,\"j\":{\"k\":\"".utf8) + [0xC3, 0x28] + Array("\"}}\n{\"id\":4,\"v\":\"ok\"}\n".utf8)
        let first = try await scene.upsert(json, chunk: 7)
        #expect(first.counts == [2, 0, 0, 2])
        #expect(first.refusals == ["line 2: it is not valid UTF-8", "line 3: it is not valid UTF-8"])
        let csv = Array("id,v\n5,\"na\u{EF}ve\"\n6,caf".utf8) + [0xE9] + Array("\n7,ok\n".utf8)
        let second = try await scene.upsert(csv, format: .csv)
        #expect(second.counts == [2, 0, 0, 1])
        #expect(second.refusals == ["line 3: it is not valid UTF-8"])
        #expect(try await scene.rows("SELECT id, v FROM t ORDER BY 1") == [["1", "é"], ["4", "ok"], ["5", "naïve"], ["7", "ok"]])
        await #expect(throws: UpsertFailure.self) { _ = try await scene.upsert([0x69, 0x64, 0x2C, 0xE9, 10], format: .csv) }
    }

    @Test func byteOrderMarkIsNoPartOfTheInput() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, v text)")
        for chunk in [1, 2, 100] {
            let json = try await scene.upsert("\u{FEFF}{\"id\":\(chunk),\"v\":\"x\"}", chunk: chunk)
            #expect(json.counts == [1, 0, 0, 0], "\(json.refusals)")
            let csv = try await scene.upsert("\u{FEFF}\"id\",v\n\(chunk),\u{FEFF}y\n", format: .csv, chunk: chunk)
            #expect(csv.counts == [0, 1, 0, 0], "\(csv.refusals)")
        }
        #expect(try await scene.rows("SELECT DISTINCT v FROM t") == [["\u{FEFF}y"]])
    }

    @Test func quoteInsideAnUnquotedCSVFieldIsAQuote() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, v text, w text)")
        let outcome = try await scene.upsert(
            "id,v,w\n1,5\" pipe,x\n2,\"a\nb\",\"\"\n3,\"a\"b,x\n4,\"say \"\"hi\"\"\",\n5, \"q\",z", format: .csv, chunk: 3)
        #expect(outcome.counts == [4, 0, 0, 1])
        #expect(outcome.refusals == ["line 5: quotes do not match"])
        let rows = try await scene.rows("SELECT id, v, w FROM t ORDER BY 1")
        #expect(
            rows == [
                ["1", "5\" pipe", "x"], ["2", "a\nb", ""], ["4", "say \"hi\"", nil], ["5", " \"q\"", "z"],
            ])
    }

    @Test func whatIsNotJSONIsRefused() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, f float8, v text)")
        let bad = [
            "-inf", "0x23", "-", "01", "1.", ".5", "1e", "+1", "nan", "1_000", "--1", "[1 2]", "[1,,2]", "[1}", "{\"a\" 1}",
            "{\"a\":1,}", "[,]", "{1:2}", "{\"a\"}", "[tru]", "[\"a\" \"b\"]", #""\u+123""#, #""\ud800x""#, #"["\q"]"#, "[1",
        ]
        let lines = bad.map { "{\"id\":1,\"v\":\($0)}" } + ["{\"id\":1,\"v\":1}x", "{\"id\":1,}", "[]"]
        let refused = try await scene.upsert(lines.joined(separator: "\n"))
        #expect(refused.counts == [0, 0, 0, lines.count])
        #expect(refused.refusals.map { $0.prefix { $0 != ":" } } == lines.indices.map { "line \($0 + 1)" })
        let good = ["-0", "0", "10.50", "1e5", "-1.25E-3", "1e+2", "null", "true"]
        let fine = good.enumerated().map { "{\"id\":\($0 + 10),\"v\":\($1)}" }.joined(separator: "\n")
        #expect(try await scene.upsert(fine).counts == [good.count, 0, 0, 0])
        let documents = try await scene.upsert(#" { "id" : 1 , "v" : { "a" : [ 1 , { } , [ ] , "\u00e9" ] } } "#)
        #expect(documents.counts == [1, 0, 0, 0])
        #expect(try await scene.rows("SELECT v FROM t WHERE id = 1") == [[#"{ "a" : [ 1 , { } , [ ] , "\u00e9" ] }"#]])
    }

    @Test func arraysOfDocumentsTakeDocuments() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, b jsonb[], p json[], m int[])")
        let outcome = try await scene.upsert(
            #"{"id":1,"b":["x",{"k":"a\"b"},[1,[2]],3,null,"q\"\\"],"p":["y",[1]],"m":[[1,2],[3,4]]}"#)
        #expect(outcome.counts == [1, 0, 0, 0], "\(outcome.refusals)")
        let rows = try await scene.rows("SELECT to_jsonb(b), to_json(p), m FROM t")
        #expect(rows == [[#"["x", {"k": "a\"b"}, [1, [2]], 3, null, "q\"\\"]"#, #"["y",[1]]"#, "{{1,2},{3,4}}"]])
        let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        let refused = try await scene.upsert("{\"id\":1,\"m\":\(deep)}")
        #expect(refused.refusals == ["line 1: an array of PostgreSQL has at most 6 dimensions"])
    }
}
