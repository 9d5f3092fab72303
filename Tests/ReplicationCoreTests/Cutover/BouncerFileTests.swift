import ReplicationCore
import Testing

struct BouncerFileTests {
    private static let address = ServerAddress(host: "db2", port: 6000, database: "hotel")

    private static func pointed(_ text: String, _ entry: String = "sync", to address: ServerAddress = address) throws -> String {
        var file = BouncerFile(Array(text.utf8))
        try file.point(entry, to: address)
        return String(decoding: file.bytes, as: UTF8.self)
    }

    @Test(arguments: [
        // Order, spaces and everything else of the entry stay.
        ("[databases]\nsync = host=a port=1 dbname=b user=u password='x y' pool_size=5\n",
            "[databases]\nsync = host=db2 port=6000 dbname=hotel user=u password='x y' pool_size=5\n"),
        ("[databases]\r\n  sync=dbname=b  user=u   host = 'a'\r\n", "[databases]\r\n  sync=port=6000 dbname=hotel  user=u   host = db2\r\n"),
        // What is not there is added, and nothing else.
        ("[databases]\nsync = user=u", "[databases]\nsync = host=db2 port=6000 dbname=hotel user=u"),
        ("[databases]\nsync =\nbot = host=a\n", "[databases]\nsync =host=db2 port=6000 dbname=hotel\nbot = host=a\n"),
        // Comments, other sections and other entries are nobody's.
        ("; sync = host=a\n[users]\nsync = pool_mode=session\n[databases]\n#sync = host=c\nsyncs = host=d\nsync = host=a\n[pgbouncer]\nsync = 1\n",
            "; sync = host=a\n[users]\nsync = pool_mode=session\n[databases]\n#sync = host=c\nsyncs = host=d\nsync = port=6000 dbname=hotel host=db2\n[pgbouncer]\nsync = 1\n"),
        // A value that is so already is not even written otherwise.
        ("[databases]\nsync = host='db2' port=6000 dbname=hotel", "[databases]\nsync = host='db2' port=6000 dbname=hotel"),
        ("[databases]\nsync = password='it''s host=x' host=a port=6000 dbname=hotel",
            "[databases]\nsync = password='it''s host=x' host=db2 port=6000 dbname=hotel"),
    ])
    func onlyHostPortAndNameOfOneEntryChange(before: String, after: String) throws {
        #expect(try Self.pointed(before) == after)
        #expect(try Self.pointed(after) == after)
    }

    @Test func aNameThatNeedsQuotesHasThem() throws {
        let after = try Self.pointed(
            "[databases]\nsync = host=a\n", to: ServerAddress(host: "/var/run/pg", port: 5432, database: "it's mine"))
        #expect(after == "[databases]\nsync = port=5432 dbname='it''s mine' host=/var/run/pg\n")
        #expect(try Self.pointed(after, to: ServerAddress(host: "/var/run/pg", port: 5432, database: "it's mine")) == after)
    }

    @Test func bytesThatAreNoTextAreKept() throws {
        let start = Array("[databases]\nbot = host=\u{0}".utf8) + [0xff, 0xfe, 0x0a]
        var file = BouncerFile(start + Array("sync = host=a port=6000 dbname=hotel".utf8))
        try file.point("sync", to: Self.address)
        #expect(file.bytes == start + Array("sync = host=db2 port=6000 dbname=hotel".utf8))
    }

    @Test func anEntryIsPutBackByteForByte() throws {
        let text = "[databases]\nsync =  host=a   dbname='b'\t\nbot = host=a\n"
        var file = BouncerFile(Array(text.utf8))
        let before = try file.text(of: "sync")
        try file.point("sync", to: Self.address)
        try file.restore("sync", to: before)
        #expect(String(decoding: file.bytes, as: UTF8.self) == text)
    }

    @Test(arguments: [
        ("", BouncerFile.Problem.noEntry("sync")),
        ("[databases]\nbot = host=a\n* = host=b\n", .noEntry("sync")),
        ("[databases]\nsync = host=a\nsync = host=b\n", .twice("sync")),
        ("[databases]\nsync = host=a dbname='open\n", .malformed("sync")),
        ("[databases]\nsync = host=a host=b\n", .malformed("sync")),
        ("[databases]\nsync = host\n", .malformed("sync")),
    ])
    func whatCanNotBeReadIsNotChanged(text: String, problem: BouncerFile.Problem) {
        #expect(throws: problem) { try Self.pointed(text) }
    }

    @Test func anAddressIsHostPortAndDatabase() {
        #expect(ServerAddress("db2:6000/hotel") == Self.address)
        #expect(ServerAddress("::1:5432/a")?.host == "::1")
        for wrong in ["db2/hotel", "db2:x/hotel", ":1/a", "a:1/", "a:70000/b", "a:1 /b", ""] { #expect(ServerAddress(wrong) == nil) }
    }
}
